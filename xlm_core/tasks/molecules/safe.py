"""Fragments in SAFE, from their SMILES alone: an open bond becomes a ring number that nothing closes yet."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count

from xlm_core.errors import DataError

TOKEN = re.compile(
    r"(?P<open>\[\d*\*(?::\d+)?\]|\*)|(?P<atom>\[[^][]+\]|Br|Cl|[A-Za-z])|(?P<ring>%\d\d|\d)|(?P<bond>[-=#$:~/\\])"
    r"|(?P<begin>\()|(?P<end>\))|(?P<dot>\.)"
)
STEREO = re.compile(r"[@/\\]")


def opened(smiles: str) -> str:
    """A fragment in SAFE.

    Args:
        smiles: one or more fragments, with `*`, `[*:1]` or `[1*]` wherever a bond is open. Marks of stereochemistry are left
            out: they refer to the order of neighbours, which changes.

    Returns:
        The atoms without the `*`. The neighbour of each has a ring number of its own, above those that are in use.

    Raises:
        DataError: it is not SMILES, or a `*` does not have one neighbour.
    """
    plain = STEREO.sub("", smiles.strip())
    numbers = count(max((int(text.removeprefix("%")) for kind, text in _tokens(plain) if kind == "ring"), default=0) + 1)
    return linked(plain, lambda _: _label(next(numbers)))


def linked(smiles: str, label: Callable[[str], str]) -> str:
    """Fragments whose open bonds are written behind the atoms that have them. Marks of stereochemistry stay as they are.

    Args:
        smiles: one or more fragments, with `*`, `[*:1]` or `[1*]` wherever a bond is open.
        label: what is written for such a one.

    Raises:
        DataError: it is not SMILES, or a `*` does not have one neighbour.
    """
    parts: list[str] = []
    branches: list[int | None] = []
    atom: int | None = None  # the part with the atom that comes before
    bond = waiting = ""  # a bond that has not been written; the number of a `*` before its atom
    ended = False  # behind a `*`
    for kind, text in _tokens(smiles):
        if (ended and kind not in ("end", "dot")) or (atom is None and kind not in ("atom", "open", "bond")):
            raise _misplaced(smiles)
        if kind == "open" and atom is None:
            if waiting:
                raise _misplaced(smiles)
            waiting = label(text)
        elif kind in ("open", "ring"):
            assert atom is not None
            parts[atom] += bond + (text if kind == "ring" else label(text))
            bond, ended = "", kind == "open"
        elif kind == "atom":
            parts.append(text + bond + waiting if waiting else bond + text)
            atom, bond, waiting = len(parts) - 1, "", ""
        elif kind == "bond":
            bond = text
        elif kind == "begin":
            parts.append(text)
            branches.append(atom)
        elif kind == "end" and branches:
            atom, ended = branches.pop(), False
            parts[-1:] = [] if parts[-1] == "(" else [parts[-1], text]
        elif kind == "dot" and not branches:
            parts.append(text)
            atom, ended = None, False
        else:
            raise _misplaced(smiles)
    if waiting or bond or branches:
        raise _misplaced(smiles)
    return "".join(parts)


def _tokens(smiles: str) -> list[tuple[str, str]]:
    """Kind and text of each."""
    found = [(str(match.lastgroup), match[0]) for match in TOKEN.finditer(smiles)]
    if not smiles or "".join(text for _, text in found) != smiles:
        raise DataError(f"{smiles!r} is not SMILES", "Look for spaces, and for letters outside of brackets.")
    return found


def _label(number: int) -> str:
    return str(number) if number < 10 else f"%{number}"


def _misplaced(smiles: str) -> DataError:
    return DataError(f"{smiles!r} is not a fragment", "Each * has one neighbour, and brackets match.")
