"""The symmetries of Sudoku: names of digits, transposition, order of bands and of rows in a band, and the same of columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xlm_core.tasks.splits import Columns
from xlm_core.tasks.sudoku.solver import COLUMN, ROW, Bits, Cells

TRANSPOSED = 9 * COLUMN + ROW


def images(grid: Bits, given: NDArray[np.bool_], rng: np.random.Generator) -> tuple[Bits, NDArray[np.bool_]]:
    """A random symmetry of each puzzle. What had one solution has one still.

    Args:
        grid: (81, B), full.
        given: (81, B), the clues.
    """
    size = grid.shape[1]
    source = 9 * _lines(size, rng)[:, :, None] + _lines(size, rng)[:, None]
    turned = rng.random(size) < 0.5
    source[turned] = source[turned].swapaxes(1, 2)
    cells = source.reshape(size, 81).T
    names = rng.permuted(np.tile(1 << np.arange(9), (size, 1)), axis=1).astype(np.uint16)
    digit = np.log2(np.take_along_axis(grid, cells, axis=0)).astype(np.int64)
    return np.take_along_axis(names, digit.T, axis=1).T.copy(), np.take_along_axis(given, cells, axis=0)


def keys(rows: Columns) -> list[bytes]:
    """One a question, equal for those that are equal but for names of digits and transposition."""
    question = rows["question"]
    return [min(pair) for pair in zip(_renamed(question), _renamed(question[:, TRANSPOSED]), strict=True)]


def _renamed(question: NDArray[np.int8]) -> list[bytes]:
    """Digits named in the order in which they first appear."""
    first = np.stack(
        [np.where((question == digit).any(1), (question == digit).argmax(1), 81) for digit in range(1, 10)], axis=1
    )
    name = np.zeros((len(question), 10), np.int8)
    name[:, 1:] = 1 + first.argsort(axis=1).argsort(axis=1)
    return [row.tobytes() for row in np.take_along_axis(name, question.astype(np.int64), axis=1)]


def _lines(size: int, rng: np.random.Generator) -> Cells:
    """(size, 9): a random order of the rows that keeps bands together."""
    bands = rng.permuted(np.tile(np.arange(3), (size, 1)), axis=1)
    inside = rng.permuted(np.tile(np.arange(3), (size, 3, 1)), axis=2)
    lines: Cells = (3 * bands[:, :, None] + inside).reshape(size, 9)
    return lines
