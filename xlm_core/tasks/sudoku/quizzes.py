"""Puzzles in files with the columns that Kaggle's million has: `quizzes` and `solutions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from xlm_core.errors import DataError
from xlm_core.tasks.sudoku import rows as boards

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer


def preprocess(rows: Mapping[str, Sequence[object]], tokenizer: Tokenizer) -> dict[str, list[list[int]]]:
    """Layout infill, as for generated puzzles.

    Args:
        rows: `quizzes` and `solutions`, 81 digits each; 0 is blank.
        tokenizer: has the numbers 0 to 9.
    """
    return boards.preprocess({"question": _boards(rows["quizzes"]), "answer": _boards(rows["solutions"])}, tokenizer)


def _boards(cells: Sequence[object]) -> list[str]:
    texts = [str(one) for one in cells]
    wrong = next((text for text in texts if len(text) != 81 or not text.replace(".", "0").isdecimal()), None)
    if wrong is not None:
        raise DataError(f"{wrong!r} is not a board", "A board is 81 digits, 0 for blank.")
    return texts
