"""Bracket SAFE: SAFE in which the bonds between fragments are numbered in angle brackets, apart from the numbers of rings.

    SAFE           c1ccc2c(c1)C3.O=C3N2
    bracket SAFE   c1ccc<1>c(c1)C<2>.O=C<2>N<1>

A model then never has to count which ring numbers are in use (GenMol, Lee et al., 2025, arXiv 2501.06158). Labels from 10 on
are `<%10>`. All here is about text: whether it is a molecule, rdkit says.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

TOKEN = re.compile(r"(?P<atom>\[[^][]*\])|(?P<label><%?\d+>)|(?P<ring>%\(\d+\)|%\d\d|\d)|(?P<dot>\.)|(?P<other>.)", re.DOTALL)
LABELS = re.compile(r"\(((?:[-=#$:~/\\]?<%?\d+>)+)\)")
"""Labels in parentheses of their own, which are there when text is made by putting labels for atoms."""
ENDS = re.compile(r"\(((?:[-=#$:~/\\]?(?:<%?\d+>|%\(\d+\)|%\d\d|\d))+)\)")
"""The same with ring numbers as well."""


class End(NamedTuple):
    """One end of a bond that is written as a number or a label."""

    bond: int
    """Both ends of a bond have the same, and no other end has it."""
    text: str
    """As it was written."""


Fragment = list[str | End]
"""What stands between two dots: text, and the ends of bonds in it."""


def bracketed(safe: str) -> str:
    """SAFE, or bracket SAFE with any labels, to bracket SAFE.

    A number that is closed in its own fragment is a ring and stays as it is. The others are bonds between fragments and get
    labels, from 1 in the order in which they are met; so do those that nothing closes.
    """
    fragments = split(safe)
    rings = {bond for fragment in fragments for bond, ends in _ends(fragment).items() if ends == 2}
    labels: dict[int, int] = {}

    def written(part: str | End) -> str:
        if isinstance(part, str):
            return part
        if part.bond in rings and not part.text.startswith("<"):
            return part.text
        return _label(labels.setdefault(part.bond, len(labels) + 1))

    return ".".join("".join(map(written, fragment)) for fragment in fragments)


def plain(text: str) -> str:
    """Bracket SAFE to SAFE: labels become ring numbers above those that are in use. Text without labels stays as it is.

    A label may stand in parentheses of its own.
    """
    if "<" not in text:
        return text
    text = LABELS.sub(r"\1", text)
    above = max((_number(match[0]) for match in TOKEN.finditer(text) if match.lastgroup == "ring"), default=0)
    return "".join(
        _ring(above + _number(match[0])) if match.lastgroup == "label" else match[0] for match in TOKEN.finditer(text)
    )


def split(text: str) -> list[Fragment]:
    """The fragments of (bracket) SAFE that are not empty. Numbers bond as in SMILES: the second closes what the first opens.

    Parentheses around nothing but numbers or labels, which SMILES does not know, are taken off.
    """
    fragments: list[Fragment] = [[]]
    opened: dict[str, int] = {}
    bonds = 0
    for match in TOKEN.finditer(ENDS.sub(r"\1", text)):
        if match.lastgroup == "dot":
            fragments.append([])
        elif match.lastgroup in ("label", "ring"):
            key = f"{match.lastgroup} {_number(match[0])}"
            if key not in opened:
                opened[key] = bonds = bonds + 1
                fragments[-1].append(End(bonds, match[0]))
            else:
                fragments[-1].append(End(opened.pop(key), match[0]))
        else:
            fragments[-1].append(match[0])
    return [fragment for fragment in fragments if fragment]


def capped(fragments: Sequence[Fragment]) -> str:
    """The SMILES of these fragments: bonds between them are closed, and each that ends nowhere has a `*` at its other end."""
    ends = Counter[int]()
    for fragment in fragments:
        ends += _ends(fragment)
    written = ["".join(part if isinstance(part, str) else f"%({part.bond})" for part in fragment) for fragment in fragments]
    return ".".join([*written, *(f"*%({bond})" for bond, count in ends.items() if count == 1)])


def _ends(fragment: Fragment) -> Counter[int]:
    return Counter(part.bond for part in fragment if isinstance(part, End))


def _number(text: str) -> int:
    return int(text.strip("<>%()"))


def _label(number: int) -> str:
    return f"<{number}>" if number < 10 else f"<%{number}>"


def _ring(number: int) -> str:
    return str(number) if number < 10 else f"%{number}" if number < 100 else f"%({number})"
