"""Whether the rules of Sudoku hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xlm_core.protocols import Batch, Prediction, Ratio
from xlm_core.tasks import boards
from xlm_core.tasks.sudoku.solver import UNITS

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer


def valid(prediction: Prediction, batch: Batch, tokenizer: Tokenizer) -> dict[str, Ratio]:
    """`valid`: share of boards whose rows, columns and boxes all have every digit, and whose clues are where they were.
    `units`: share of the 27 rows, columns and boxes that have every digit."""
    board, kept = boards.filled(prediction, batch, tokenizer, 10)
    return _judged(board, kept)


def valid_order(prediction: Prediction, batch: Batch, tokenizer: Tokenizer) -> dict[str, Ratio]:
    """The same of boards that were filled cell by cell, as `preprocess_order` writes it: `valid` are those where each
    blank cell is written once, and nothing else is."""
    asked = boards.numbers(boards.prompts(batch), tokenizer, 10)
    tokens = (prediction.ids != tokenizer.pad_token_id).sum(-1)
    moves = boards.numbers(prediction.ids, tokenizer, 10)
    moves = torch.nn.functional.pad(moves, (0, -moves.shape[1] % 3), value=-1).unflatten(1, (-1, 3))
    whole = (moves > 0).all(-1)
    cells = torch.where(whole, 9 * moves[..., 0] + moves[..., 1] - 10, 81)  # what is no move goes to a cell beside the board
    times = torch.zeros(len(asked), 82, dtype=torch.int64, device=asked.device).scatter_add_(1, cells, whole.long())[:, :81]
    board = torch.nn.functional.pad(asked, (0, 1)).scatter_(1, cells, moves[..., 2])[:, :81]
    blank = asked == 0
    return _judged(board, (times == blank).all(-1) & (tokens == 3 * blank.sum(-1)))


def _judged(board: Tensor, kept: Tensor) -> dict[str, Ratio]:
    """Of (B, 81) digits, and (B,) whether each answers what was asked."""
    units = torch.from_numpy(UNITS).to(board.device)
    right = (board[:, units].sort(-1).values == torch.arange(1, 10, device=board.device)).all(-1)
    return {
        "valid": boards.share(right.all(-1) & kept),
        "units": Ratio(right.sum(-1).double(), torch.full_like(kept, 27, dtype=torch.float64)),
    }
