"""Whether queens attack each other."""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xlm_core.protocols import Batch, Prediction, Ratio
from xlm_core.tasks import boards
from xlm_core.tasks.queens.boards import EMPTY, QUEEN, SIZE

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer


def valid(prediction: Prediction, batch: Batch, tokenizer: Tokenizer) -> dict[str, Ratio]:
    """`valid`: share of boards with one queen in each row and column, at most one on each diagonal, and the given ones in
    place. Any such answer is right, whatever the target is."""
    cells, kept = boards.filled(prediction, batch, tokenizer, SIZE)
    known = ((cells == EMPTY) | (cells == QUEEN)).all(-1)
    return {"valid": boards.share(known & kept & peaceful(cells == QUEEN))}


def peaceful(queens: Tensor) -> Tensor:
    """(B,) bool of (B, n * n) bool: one queen in each row and column, at most one on each diagonal."""
    size = isqrt(queens.shape[1])
    board = queens.view(len(queens), size, size).long()
    lines = (board.sum(1) == 1).all(-1) & (board.sum(2) == 1).all(-1)
    row, column = torch.arange(size, device=queens.device)[:, None], torch.arange(size, device=queens.device)
    for diagonal in (row + column, row - column + size - 1):
        counts = torch.zeros(len(board), 2 * size - 1, dtype=torch.int64, device=queens.device)
        lines &= (counts.index_add_(1, diagonal.flatten(), board.flatten(1)) <= 1).all(-1)
    return lines
