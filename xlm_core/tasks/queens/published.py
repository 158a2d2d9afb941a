"""Boards of two sizes in one set, with the columns that are published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from xlm_core.errors import DataError
from xlm_core.tasks import boards, sizes
from xlm_core.tasks.queens.boards import EMPTY, QUEEN, SIZE
from xlm_core.tasks.queens.validity import peaceful

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer

BOARDS = {"8x8": 8, "10x10": 10}


def preprocess(rows: Mapping[str, Sequence[Any]], tokenizer: Tokenizer, *, config: str) -> dict[str, list[list[int]]]:
    """Layout infill, as for generated boards.

    Args:
        rows: `input` and `target`, numbers as `generate` gives them and zeros, which are left out; `config`.
        tokenizer: has the numbers 0 to 2.
        config: 8x8 or 10x10: boards of another size are left out.

    Raises:
        ConfigError: there is no such size.
        DataError: a row is no board of its size, or its target does not solve it.
    """
    cells = sizes.known(config, BOARDS) ** 2
    given, target = (sizes.of_size(rows, column, config, cells, {EMPTY, QUEEN}) for column in ("input", "target"))
    right = peaceful(torch.from_numpy(target == QUEEN)).numpy() & ((given != QUEEN) | (target == QUEEN)).all(1)
    if not right.all():
        hint = "Cells are in reading order: 1 for empty, 2 for a queen."
        raise DataError(f"{target[~right][0].tolist()} does not solve the board {given[~right][0].tolist()}", hint)
    return boards.infilling(target, given == QUEEN, tokenizer, SIZE)
