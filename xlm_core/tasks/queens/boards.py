"""All ways to place n queens that do not attack each other, and all questions that leave some of the queens out.

Solutions that are the same but for turning and mirroring go to the same split. A question whose solutions are all of the test
split is asked there; one that has a training solution is asked in training only, with such a solution as the answer. So
neither the question nor any right answer to it has been seen, up to symmetry of the whole answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xlm_core.errors import ConfigError, DataError
from xlm_core.tasks.boards import column, infilling
from xlm_core.tasks.splits import SPLITS

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer

EMPTY, QUEEN = 1, 2
SIZE = 3
"""Numbers that are used: 0 is none of a cell."""
LARGEST = 11
"""Everything is listed, which takes half a gigabyte here and ten times as much for each row more."""
Ints = NDArray[np.int64]


def solutions(size: int) -> Ints:
    """(S, size) int64: the column of the queen in each row, in lexicographic order."""
    found: list[list[int]] = []

    def place(queens: list[int], columns: int, falling: int, rising: int) -> None:
        if len(queens) == size:
            found.append(queens)
            return
        for place_in_row in range(size):
            bit = 1 << place_in_row
            if not bit & (columns | falling | rising):
                place([*queens, place_in_row], columns | bit, (falling | bit) << 1, (rising | bit) >> 1)

    place([], 0, 0, 0)
    return np.array(found, np.int64).reshape(-1, size)


def orbits(queens: Ints) -> Ints:
    """(S,) int64: equal numbers, from 0 on, for solutions that turning and mirroring makes the same."""
    size = queens.shape[1]
    images = [
        flipped
        for board in (queens, queens.argsort(axis=1))  # the second is transposed
        for half in (board, board[:, ::-1])
        for flipped in (half, size - 1 - half)
    ]
    weights = size ** np.arange(size)
    numbers: Ints = np.unique(np.min([image @ weights for image in images], axis=0), return_inverse=True)[1]
    return numbers


def generate(
    split: str, *, size: int, fewest: int, most: int, validation_solutions: int, test_solutions: int, seed: int = 42
) -> dict[str, pa.Array]:
    """Questions of a split, each once, in random order.

    Args:
        split: train, validation or test.
        size: rows and columns of the board.
        fewest, most: how many queens are given, at least and at most.
        validation_solutions, test_solutions: how many these splits have, up to symmetry; training has the others.
        seed: of the division into splits, the order, and the answer that is shown where there are several.

    Returns:
        `input` and `target`: boards in reading order, 1 for empty and 2 for a queen; and `config`, as "8x8".
    """
    if split not in SPLITS:
        raise DataError(f"there is no split {split!r} of queens", f"There are {', '.join(SPLITS)}.")
    if not 0 <= fewest <= most <= size <= LARGEST:
        hint = f"0 <= fewest <= most <= size <= {LARGEST}."
        raise ConfigError(f"{fewest} to {most} of {size} queens cannot be given", hint)
    queens = solutions(size)
    owner = _owners(orbits(queens), validation_solutions, test_solutions, seed)
    shown = ((np.arange(1 << size)[:, None] >> np.arange(size)) & 1).astype(bool)
    shown = shown[(shown.sum(1) >= fewest) & (shown.sum(1) <= most)]
    answer, subset = (index.ravel() for index in np.indices((len(queens), len(shown))))
    key = np.where(shown[subset], queens[answer] + 1, 0) @ ((size + 1) ** np.arange(size))
    question = np.unique(key, return_inverse=True)[1]
    chosen = _chosen(question, owner[answer], SPLITS.index(split), seed)
    target = _board(queens[answer[chosen]], np.ones((len(chosen), size), bool))
    given = _board(queens[answer[chosen]], shown[subset[chosen]])
    return {"input": column(given), "target": column(target), "config": pa.array([f"{size}x{size}"] * len(chosen))}


def preprocess(rows: Mapping[str, Sequence], tokenizer: Tokenizer) -> dict[str, list[list[int]]]:
    """Layout infill: the cells in reading order, all but the given queens to be filled.

    Args:
        rows: `input` and `target`.
        tokenizer: has the numbers 0 to 2.
    """
    return infilling(np.array(rows["target"]), np.array(rows["input"]) == QUEEN, tokenizer, SIZE)


def _owners(orbit: Ints, validation: int, test: int, seed: int) -> Ints:
    """(S,) int64: the split of each solution, as an index into SPLITS."""
    count = int(orbit.max(initial=-1)) + 1
    if min(validation, test) < 1 or validation + test >= count:
        hint = "Every split has one at least."
        raise ConfigError(f"{count} solutions cannot be divided into {test} for test, {validation} and the rest", hint)
    owner = np.full(count, SPLITS.index("train"))
    order = np.random.default_rng(seed).permutation(count)
    owner[order[:test]] = SPLITS.index("test")
    owner[order[test : test + validation]] = SPLITS.index("validation")
    return owner[orbit]


def _chosen(question: Ints, owner: Ints, split: int, seed: int) -> Ints:
    """Which of the pairs of a question and an answer make the split: one for each of its questions, in random order."""
    last = np.zeros(question.max() + 1, np.int64)
    np.maximum.at(last, question, owner)
    other = np.zeros(len(last), bool)
    other[question[owner != split]] = True
    mine = last == split if SPLITS[split] == "train" else ~other
    rng = np.random.default_rng([seed, split])
    pairs = rng.permutation(np.flatnonzero((owner == split) & mine[question]))
    chosen: Ints = pairs[np.unique(question[pairs], return_index=True)[1]]
    return rng.permutation(chosen)


def _board(queens: Ints, shown: NDArray[np.bool_]) -> NDArray[np.int8]:
    """(R, n * n)."""
    places = (queens[:, :, None] == np.arange(queens.shape[1])) & shown[:, :, None]
    return np.where(places, QUEEN, EMPTY).astype(np.int8).reshape(len(queens), -1)
