"""Sudoku with one solution, of three difficulties.

easy and medium are solved by singles alone: a random part of a full grid is given, and one more clue wherever singles get
stuck. hard ones have no clue to spare (without any of them there are more solutions) and cannot be solved by singles.

Full grids are found by random search from three random boxes on the diagonal; that reaches every grid, but not all of them
equally often. Block k of a split is a function of (seed, difficulty, split, k).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xlm_core.errors import ConfigError
from xlm_core.tasks.splits import SPLITS, Columns, distinct
from xlm_core.tasks.sudoku import solver, symmetry
from xlm_core.tasks.sudoku.solver import ALL, Bits

Given = NDArray[np.bool_]
"""(81, B): which cells are clues."""
BLOCK = 500
"""Candidates that are made at once, from one generator."""


@dataclass(frozen=True)
class Difficulty:
    """The law of a puzzle."""

    fewest: int
    most: int
    """Random clues to begin with, uniform on fewest .. most."""
    minimal: bool = False
    """Take away every clue that can be spared, and keep the puzzles in which something must then be guessed."""


DIFFICULTIES = {"easy": Difficulty(50, 60), "medium": Difficulty(30, 30), "hard": Difficulty(24, 24, minimal=True)}


def generate(
    split: str,
    *,
    difficulty: str,
    train: int = 50_000,
    validation: int = 100,
    test: int = 1_000,
    copies: int = 1,
    trajectory: bool = False,
    seed: int = 42,
) -> dict[str, pa.Array]:
    """Puzzles of a split, as columns. No two have questions that are equal but for names of digits and transposition.

    Args:
        split: train, validation or test.
        difficulty: easy, medium or hard.
        train, validation, test: how many rows each split has.
        copies: in place of each training puzzle, so many of its images under random symmetries of Sudoku.
        trajectory: in place of each of these, every board that a solver by singles has on its way, to be solved from there.
        seed: of all splits.

    Returns:
        `question` and `answer`, strings of 81 digits with "." for blank; `order`, the blank cells as numbers 9 * row + column,
        in the order in which a solver by singles writes them; `steps`, how many sweeps over the board it makes; `guesses`, in
        how many of them it found nothing and was told a digit.
    """
    if difficulty not in DIFFICULTIES:
        raise ConfigError(f"there are no {difficulty!r} Sudoku", f"difficulty is one of {', '.join(DIFFICULTIES)}.")
    if copies < 1:
        raise ConfigError(f"there cannot be {copies} copies of a puzzle", "copies is at least 1.")
    sizes = {"train": train, "validation": validation, "test": test}
    return _columns(distinct(split, sizes, partial(_block, difficulty, copies, trajectory, seed), symmetry.keys))


def grids(size: int, rng: np.random.Generator) -> Bits:
    """(81, size): full grids."""
    cells = _diagonal(size, rng)
    active = np.arange(size)
    while len(active):
        now = solver.propagate(cells[:, active])
        failed = now[0] == 0
        now[:, failed] = _diagonal(int(failed.sum()), rng)
        unsolved = solver.is_open(now).any(0)
        place = (solver.tightest(now), np.arange(len(active)))
        now[place] = np.where(unsolved, _one_of(now[place], rng), now[place])
        cells[:, active] = now
        active = active[unsolved]
    return cells


def by_singles(grid: Bits, fewest: int, most: int, rng: np.random.Generator) -> Given:
    """Clues from which singles alone fill the grids: random ones, and an open cell wherever they get stuck."""
    size = grid.shape[1]
    rank = rng.permuted(np.tile(np.arange(81)[:, None], size), axis=0)
    given: Given = rank < rng.integers(fewest, most, size, endpoint=True)
    cells = np.where(given, grid, ALL)
    active = np.arange(size)
    while len(active):
        now = solver.propagate(cells[:, active])
        stuck = solver.is_open(now)
        unsolved = stuck.any(0)
        now, active = now[:, unsolved], active[unsolved]
        place = np.where(stuck[:, unsolved], rank[:, active], 81).argmin(0)
        now[place, np.arange(len(active))] = grid[place, active]
        given[place, active] = True
        cells[:, active] = now
    return given


def without_spare(grid: Bits, given: Given, rng: np.random.Generator) -> Given:
    """Take clues away, in random order, as long as the grid stays the only solution."""
    given = given.copy()
    order = np.argsort(rng.random(given.shape) + ~given, axis=0)  # clues go first
    for places in order[: given.sum(0).max()]:
        (tried,) = np.nonzero(given[places, np.arange(grid.shape[1])])
        place = (places[tried], np.arange(len(tried)))
        cells = np.where(given[:, tried], grid[:, tried], ALL)
        cells[place] = ALL & ~grid[:, tried][place]
        spared = solver.count_solutions(cells, most=1) == 0
        given[place[0][spared], tried[spared]] = False
    return given


def written(grid: Bits, given: Given) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """When a solver by singles writes each cell. Stuck, it is told the digit of the first of the cells with fewest left.

    Returns:
        (81, B), the number of the sweep, 0 for clues; and (B,), how often it was told.
    """
    cells = np.where(given, grid, ALL)
    when = np.where(given, 0, -1).astype(np.int16)
    told = np.zeros(grid.shape[1], np.int16)
    active = np.arange(grid.shape[1])
    for step in range(1, 82):
        before = cells[:, active]
        after = solver.sweep(before)
        stuck = (after == before).all(0)
        place = solver.tightest(after)[stuck]
        after[place, stuck] = grid[place, active[stuck]]
        told[active] += stuck
        when[:, active] = np.where((when[:, active] < 0) & ~solver.is_open(after), step, when[:, active])
        cells[:, active] = after
        active = active[solver.is_open(after).any(0)]
        if not len(active):
            break
    return when, told


def on_the_way(grid: Bits, given: Given) -> tuple[Bits, Given]:
    """The boards after each sweep of a solver by singles, from each puzzle on up to the last that has a blank."""
    when = written(grid, given)[0]
    sweeps = when.max(0).astype(np.int64)
    puzzle = np.repeat(np.arange(len(sweeps)), sweeps)
    done = np.arange(len(puzzle)) - np.repeat(np.cumsum(sweeps) - sweeps, sweeps)
    return grid[:, puzzle], when[:, puzzle] <= done


@lru_cache(maxsize=8)  # each split asks for the blocks of those before it again
def _block(difficulty: str, copies: int, trajectory: bool, seed: int, split: int, block: int) -> Columns:
    law = DIFFICULTIES[difficulty]
    rng = np.random.default_rng([seed, list(DIFFICULTIES).index(difficulty), split, block])
    grid = grids(BLOCK, rng)
    given = by_singles(grid, law.fewest, law.most, rng)
    if law.minimal:
        given = without_spare(grid, given, rng)
        told = written(grid, given)[1] > 0
        grid, given = grid[:, told], given[:, told]
    if copies > 1 and SPLITS[split] == "train":
        grid, given = symmetry.images(np.tile(grid, copies), np.tile(given, copies), rng)
    if trajectory and SPLITS[split] == "train":
        grid, given = on_the_way(grid, given)
    when, guesses = written(grid, given)
    answer = solver.digits(grid)
    return {"question": answer * given.T, "answer": answer, "when": when.T, "guesses": guesses}


def _columns(rows: Columns) -> dict[str, pa.Array]:
    when = rows["when"]
    order = np.argsort(when, axis=1, kind="stable")
    blank = np.take_along_axis(when, order, axis=1) > 0
    offsets = np.concatenate([[0], np.cumsum(blank.sum(1))])
    return {
        "question": _strings(rows["question"]),
        "answer": _strings(rows["answer"]),
        "order": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(order[blank])),
        "steps": pa.array(when.max(1)),
        "guesses": pa.array(rows["guesses"]),
    }


def _strings(digits: NDArray[np.int8]) -> pa.Array:
    text = np.frombuffer(b".123456789", np.uint8)[digits].tobytes().decode()
    return pa.array([text[start : start + 81] for start in range(0, len(text), 81)])


def _diagonal(size: int, rng: np.random.Generator) -> Bits:
    """(81, size): three random boxes on the diagonal, and nothing else yet. Every grid begins so in one way."""
    cells = np.full((81, size), ALL)
    for box in (0, 4, 8):
        filled = rng.permuted(np.tile((1 << np.arange(9)).astype(np.uint16)[:, None], size), axis=0)
        cells[solver.UNITS[18 + box]] = filled
    return cells


def _one_of(bits: Bits, rng: np.random.Generator) -> Bits:
    """(B,): one bit of each, all equally likely."""
    chances = (bits >> np.arange(9, dtype=np.uint16)[:, None] & 1) * (1 - rng.random((9, len(bits))))
    chosen: Bits = (1 << chances.argmax(0)).astype(np.uint16)
    return chosen
