"""Puzzles with the columns of sudoku-extreme: how hard each is for a solver by strategies, and the boards on its way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from xlm_core.errors import ConfigError, DataError
from xlm_core.tasks.sudoku import rows as boards

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer

Puzzle: TypeAlias = Mapping[str, Any]
ADVANCED = {f"{kind} {size}" for kind in ("naked", "hidden") for size in ("pair", "triple", "quad")}
MASTER = {"x wing", "swordfish", "jellyfish", "forcing chain"}
GUESS = "brute force"


def preprocess(
    rows: Mapping[str, Sequence[Any]], tokenizer: Tokenizer, *, only: str | None = None, trajectory: bool = False
) -> dict[str, list[list[int]]]:
    """Layout infill, as for generated puzzles.

    Args:
        rows: `question` and `answer`, 81 digits each; "." or "0" is blank. `only` reads `source`, `rating`, `num_steps` and
            `strategies_used` as well.
        tokenizer: has the numbers 0 to 9.
        only: kaggle, hard, extreme or deduction_only: leave other puzzles out.
        trajectory: in place of each puzzle, every board of its `trajectory` but the solution, each to be solved from there. A
            puzzle without one stays alone.
    """
    chosen = [puzzle for puzzle in _puzzles(rows) if only is None or _filter(only)(puzzle)]
    questions = [_way(puzzle) if trajectory else [puzzle["question"]] for puzzle in chosen]
    answers = [puzzle["answer"] for puzzle, asked in zip(chosen, questions, strict=True) for _ in asked]
    return boards.preprocess({"question": [board for asked in questions for board in asked], "answer": answers}, tokenizer)


def _filter(name: str) -> Callable[[Puzzle], bool]:
    if name not in FILTERS:
        raise ConfigError(f"there are no {name!r} puzzles", f"data.arguments.only is one of {', '.join(FILTERS)}.")
    return FILTERS[name]


def _hard(puzzle: Puzzle) -> bool:
    return puzzle["rating"] >= 50 or puzzle["num_steps"] >= 8 or bool(_strategies(puzzle) & (ADVANCED | MASTER))


def _extreme(puzzle: Puzzle) -> bool:
    return puzzle["rating"] >= 100 or puzzle["num_steps"] >= 12 or bool(_strategies(puzzle) & MASTER)


def _deduction_only(puzzle: Puzzle) -> bool:
    """It takes more than singles, and no guess."""
    used = _strategies(puzzle)
    return GUESS not in used and bool(used & (ADVANCED | MASTER))


FILTERS: dict[str, Callable[[Puzzle], bool]] = {
    "kaggle": lambda puzzle: puzzle["source"] == "puzzles0_kaggle",
    "hard": _hard,
    "extreme": _extreme,
    "deduction_only": _deduction_only,
}


def _strategies(puzzle: Puzzle) -> set[str]:
    """Their names, spelt in one way: "Naked Pairs" and "naked_pair" are the same."""
    return {re.sub(r"[\W_]+", " ", name).strip().lower().removesuffix("s") for name in puzzle["strategies_used"] or ()}


def _way(puzzle: Puzzle) -> list[str]:
    """The boards from the question on that still have a blank."""
    way = [puzzle["question"], *(board for board in puzzle["trajectory"] or () if board != puzzle["question"])]
    for board in way:
        kept = len(board) == 81 and all(a in (".", "0", b) for a, b in zip(board, puzzle["answer"], strict=True))
        if not kept:
            raise DataError(f"{board!r} is not on the way to {puzzle['answer']!r}", "Leave data.arguments.trajectory out.")
    return [board for board in way if board != puzzle["answer"]]


def _puzzles(rows: Mapping[str, Sequence[Any]]) -> Iterator[Puzzle]:
    columns = list(rows)
    for values in zip(*rows.values(), strict=True):
        yield dict(zip(columns, values, strict=True))
