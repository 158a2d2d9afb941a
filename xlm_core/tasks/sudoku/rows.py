"""Puzzles to ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xlm_core.tasks.boards import infilling, number_ids

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer


def preprocess(rows: Mapping[str, Sequence[str]], tokenizer: Tokenizer) -> dict[str, list[list[int]]]:
    """Layout infill: the 81 cells in reading order, those that are blank to be filled.

    Args:
        rows: `question` and `answer`, 81 digits each; "." or "0" is blank.
        tokenizer: has the numbers 0 to 9.
    """
    return infilling(_digits(rows["answer"]), _digits(rows["question"]) > 0, tokenizer, 10)


def preprocess_order(rows: Mapping[str, Sequence], tokenizer: Tokenizer) -> dict[str, list[list[int]]]:
    """Layout seq2seq: the prompt is the 81 cells with 0 for blank, the target says row, column and digit (from 1 to 9) of each
    blank cell in the order in which a solver writes them (Shah et al., 2024, arXiv 2409.10502).

    Args:
        rows: `question`, `answer` and `order`, as `generate` gives them.
        tokenizer: has the numbers 0 to 9.
    """
    ids = number_ids(tokenizer, 10)
    targets = []
    for answer, order in zip(_digits(rows["answer"]), rows["order"], strict=True):
        cells = np.asarray(order, np.int64)
        moves = np.stack([cells // 9 + 1, cells % 9 + 1, answer[cells]], axis=1)
        targets.append(ids[moves].ravel().tolist())
    return {"prompt_ids": ids[_digits(rows["question"])].tolist(), "input_ids": targets}


def _digits(boards: Sequence[str]) -> NDArray[np.int64]:
    """(B, 81), 0 for blank."""
    text = "".join(boards).replace(".", "0").encode()
    return np.frombuffer(text, np.uint8).reshape(len(boards), 81).astype(np.int64) - ord("0")
