"""Whether a colouring is proper."""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xlm_core.protocols import Batch, Prediction, Ratio
from xlm_core.tasks import boards
from xlm_core.tasks.coloring.graphs import COLOURS, JOINED, SIZE, pairs

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer


def valid(prediction: Prediction, batch: Batch, tokenizer: Tokenizer) -> dict[str, Ratio]:
    """`valid`: share of rows in which every vertex has a colour, no edge joins two of the same, and what was given, the graph
    above all, is as it was. Any such answer is right, whatever the target is."""
    cells, kept = boards.filled(prediction, batch, tokenizer, SIZE)
    vertices = (isqrt(8 * cells.shape[1] + 1) - 1) // 2  # n (n - 1) / 2 possible edges and n vertices
    return {"valid": boards.share(kept & proper(cells[:, :-vertices], cells[:, -vertices:]))}


def proper(edges: Tensor, colours: Tensor) -> Tensor:
    """(B,) bool: every vertex has a colour, and no edge joins two of the same.

    Args:
        edges: (B, n (n - 1) / 2) numbers, as `generate` gives them.
        colours: (B, n) numbers.
    """
    one, other = (torch.from_numpy(ends).to(colours.device) for ends in pairs(colours.shape[1]))
    broken = ((edges == JOINED) & (colours[:, one] == colours[:, other])).any(-1)
    return ~broken & (colours >= min(COLOURS)).all(-1)
