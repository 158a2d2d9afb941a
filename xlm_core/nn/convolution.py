"""Mixing the embeddings of adjacent tokens before the first layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xlm_core.nn.attention import AttentionMask


class EmbeddingCache:
    """The embeddings of the last columns, for a convolution that goes on behind them."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self._last: Tensor | None = None

    def append(self, x_BLD: Tensor) -> Tensor:
        """(B, K, D): the last columns, then the new ones."""
        known_BKD = x_BLD if self._last is None else torch.cat([self._last, x_BLD], dim=1)
        self._last = known_BKD[:, -self.columns :]
        return known_BKD

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows ((N,) int64), in this order."""
        if self._last is not None:
            self._last = self._last[rows]


class EmbeddingConvolution(nn.Module):
    """x_i + sum over 0 < |o| <= reach of W_o x_(i+o), over the neighbours that column i may see.

    To look a token up by the one beside it takes two attention layers that only help together, which is why training stays on a
    plateau before it finds them (Olsson et al., 2022, arXiv 2209.11895). Here the first layer can do it.

    Args:
        dim: D.
        reach: neighbours on each side.
    """

    def __init__(self, dim: int, reach: int) -> None:
        super().__init__()
        self.reach = reach
        self.mix = nn.Linear(2 * reach * dim, dim, bias=False)

    def forward(self, x_BLD: Tensor, mask: AttentionMask | None = None, cache: EmbeddingCache | None = None) -> Tensor:
        """(B, L, D).

        Args:
            x_BLD: embeddings of the columns.
            mask: who sees whom, as in attention; with a cache, of its columns too.
            cache: of the columns before these.
        """
        known_BKD = x_BLD if cache is None else cache.append(x_BLD)
        offsets = (*range(-self.reach, 0), *range(1, self.reach + 1))
        neighbours = [self._neighbour(known_BKD, offset, x_BLD.shape[1], mask or AttentionMask()) for offset in offsets]
        y_BLD: Tensor = x_BLD + self.mix(torch.cat(neighbours, dim=-1))
        return y_BLD

    def _neighbour(self, known_BKD: Tensor, offset: int, queries: int, mask: AttentionMask) -> Tensor:
        """(B, Q, D): the column `offset` right of each of the last Q ones; zero where there is none that may be seen."""
        keys = known_BKD.shape[1]
        if mask.causal and offset > 0:
            return torch.zeros_like(known_BKD[:, keys - queries :])
        own, there = slice(keys - queries, keys), slice(keys - queries + offset + self.reach, keys + offset + self.reach)
        found = F.pad(known_BKD, (0, 0, self.reach, self.reach))[:, there]
        if mask.valid is not None:
            found = found * F.pad(mask.valid[:, -keys:], (self.reach, self.reach))[:, there, None]
        if mask.segments is not None:
            segments = mask.segments[:, -keys:]
            same = F.pad(segments, (self.reach, self.reach))[:, there] == segments[:, own]
            found = found * same[..., None]
        return found
