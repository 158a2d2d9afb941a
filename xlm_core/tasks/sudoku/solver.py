"""Sudoku by singles and search, for many boards at once.

Bits of a cell are the digits that it may still have: bit d - 1 for digit d. Arrays are (81, B) uint16, cells first, so that
numpy works on long rows. A board that contradicts itself is all 0.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Bits: TypeAlias = NDArray[np.uint16]
Cells: TypeAlias = NDArray[np.int64]
"""A cell's number is 9 * row + column."""

ALL = np.uint16(0x1FF)
ROW, COLUMN = np.divmod(np.arange(81), 9)
UNIT = np.stack([ROW, 9 + COLUMN, 18 + ROW // 3 * 3 + COLUMN // 3])
"""(3, 81): the row, column and box of each cell, as numbers of units."""
UNITS = np.argsort(UNIT, axis=1, kind="stable").reshape(27, 9)
"""(27, 9): the cells of each unit."""
COUNT = np.array([bits.bit_count() for bits in range(ALL + 1)], np.uint8)
WIDTH = 2048
"""Boards that the search works on at once. More of them wait than a depth-first search would have, but not without end."""


def bits(digits: NDArray[np.int8]) -> Bits:
    """(B, 81) digits, 0 for blank, as what each cell may have: the digit, or anything."""
    table = np.array([ALL, *(1 << np.arange(9))], np.uint16)
    return np.ascontiguousarray(table[digits].T)


def digits(cells: Bits) -> NDArray[np.int8]:
    """(B, 81): the digit of each cell, 0 where it is not known."""
    table = np.zeros(ALL + 1, np.int8)
    table[1 << np.arange(9)] = np.arange(1, 10)
    return np.ascontiguousarray(table[cells].T)


def sweep(cells: Bits) -> Bits:
    """Strike the digit of every single from its units, then write the digits that have one place left in a unit.

    Two equal singles in a unit strike each other, so that the search drops the board at once.
    """
    single = np.where(is_open(cells), np.uint16(0), cells)
    once, twice = _tally(single)
    cells = cells & ~np.where(single > 0, _spread(twice), _spread(once))
    once, twice = _tally(cells)
    hidden = cells & _spread(once & ~twice)
    cells = np.where(hidden > 0, hidden, cells)
    sound: NDArray[np.bool_] = (once == ALL).all(0) & (cells > 0).all(0)
    return cells * sound.astype(np.uint16)


def propagate(cells: Bits) -> Bits:
    """Sweep until nothing changes."""
    cells = cells.copy()
    active = np.arange(cells.shape[1])
    while len(active):
        before = cells[:, active]
        after = sweep(before)
        cells[:, active] = after
        active = active[(after != before).any(0)]
    return cells


def is_open(cells: Bits) -> NDArray[np.bool_]:
    """Whether a cell may have several digits."""
    return (cells & (cells - np.uint16(1))) > 0


def tightest(cells: Bits) -> Cells:
    """(B,) int64: the first of the open cells with fewest digits."""
    number: Cells = np.where(is_open(cells), COUNT[cells], 10).argmin(0)
    return number


def count_solutions(cells: Bits, most: int = 2) -> NDArray[np.int64]:
    """(B,) int64: how many solutions each board has; from `most` on, at least so many."""
    found = np.zeros(cells.shape[1], np.int64)
    owner = np.arange(cells.shape[1])
    while len(owner):
        waiting, cells = np.split(cells, [max(0, len(owner) - WIDTH)], axis=1)
        others, owner = np.split(owner, [max(0, len(owner) - WIDTH)])
        cells = propagate(cells)
        unsolved = is_open(cells).any(0)
        found += np.bincount(owner[~unsolved & (cells[0] > 0)], minlength=len(found))
        go = unsolved & (found[owner] < most)
        cells, owner = cells[:, go], owner[go]
        wanted = found[others] < most
        cells = np.concatenate([waiting[:, wanted], *_branches(cells)], axis=1)
        owner = np.concatenate([others[wanted], owner, owner])
    return found


def _branches(cells: Bits) -> tuple[Bits, Bits]:
    """The tightest cell has its lowest digit, or it has not."""
    place = (tightest(cells), np.arange(cells.shape[1]))
    lowest = cells[place] & -cells[place]
    without, having = cells.copy(), cells.copy()
    without[place] ^= lowest
    having[place] = lowest
    return without, having


def _tally(cells: Bits) -> tuple[Bits, Bits]:
    """(27, B) twice: bits that are somewhere in a unit, and bits that are in more than one of its cells."""
    once = np.zeros((27, cells.shape[1]), np.uint16)
    twice = np.zeros_like(once)
    for place in UNITS.T:
        there = cells[place]
        twice |= once & there
        once |= there
    return once, twice


def _spread(units: Bits) -> Bits:
    """(81, B): the bits of all three units of each cell."""
    spread: Bits = units[UNIT[0]] | units[UNIT[1]] | units[UNIT[2]]
    return spread
