"""Splits that are drawn and share nothing.

Candidates come in blocks, each a function of (split, number of the block). A split is made of its first candidates whose key
no earlier candidate has, neither of the split nor of those before it: test, validation, train.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import count
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xlm_core.errors import DataError

SPLITS = ("test", "validation", "train")
Columns: TypeAlias = dict[str, NDArray[Any]]
"""Arrays with one entry a row."""


def distinct(
    split: str,
    sizes: dict[str, int],
    draw: Callable[[int, int], Columns],
    keys: Callable[[Columns], Sequence[Hashable]],
) -> Columns:
    """The rows of a split.

    Args:
        split: test, validation or train.
        sizes: how many rows each split has.
        draw: called with the number of the split and that of the block.
        keys: one for each row of a block, equal for rows that ask the same.

    Raises:
        DataError: there is no such split, or there are not so many different rows.
    """
    if split not in SPLITS:
        raise DataError(f"there is no split {split!r}", f"There are {', '.join(SPLITS)}.")
    seen: set[Hashable] = set()
    for number, name in enumerate(SPLITS[: SPLITS.index(split)]):
        _first(name, sizes[name], number, draw, keys, seen)
    return _first(split, sizes[split], SPLITS.index(split), draw, keys, seen)


def _first(
    name: str,
    size: int,
    number: int,
    draw: Callable[[int, int], Columns],
    keys: Callable[[Columns], Sequence[Hashable]],
    seen: set[Hashable],
) -> Columns:
    """The first `size` rows that are not in `seen`, to which they are added."""
    found: list[Columns] = []
    missing = size
    for block in count():
        rows = draw(number, block)
        new: list[int] = []
        for row, key in enumerate(keys(rows)):
            if len(new) < missing and key not in seen:
                seen.add(key)
                new.append(row)
        if missing and not new:
            raise DataError(f"the split {name} cannot have {size:,} different rows", "Ask for fewer, or for larger ones.")
        found.append({column: values[new] for column, values in rows.items()})
        missing -= len(new)
        if not missing:
            break
    return {column: np.concatenate([part[column] for part in found]) for column in found[0]}
