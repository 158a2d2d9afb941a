"""Keys and values of a whole canvas, kept from one evaluation for the next ones of the same block.

With attention in both directions they change whenever a token does, so using them again is an approximation (Wu et al., 2025,
arXiv 2505.22618).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xlm_core.errors import ConfigError
from xlm_core.nn.attention import KeyValueCache
from xlm_family_dream.config import PredictorConfig
from xlm_family_dream.model import DreamModel
from xlm_family_dream.schedule import Turn

CACHES = ("none", "prefix", "dual")


@dataclass(frozen=True)
class Window:
    """Some rows, and the columns of them that are computed."""

    rows: Tensor
    """(N,) int64: where the rows stand in the batch."""
    columns: Tensor | None = None
    """(N, W) int64, contiguous, the last one repeated in rows that have fewer; all columns when None."""

    def place(self, row: Tensor, column: Tensor) -> Tensor:
        """(M,) int64: where the computed columns have these columns ((M,) int64) of these rows ((M,) int64, of the window)."""
        return column if self.columns is None else column - self.columns[row, 0]


class _LayerCache(KeyValueCache):
    """One layer's keys and values of all columns of the batch."""

    def __init__(self, batch: int, columns: int) -> None:
        self._shape = (batch, columns)
        self._kept: tuple[Tensor, Tensor] | None = None
        self.window = Window(torch.zeros(0, dtype=torch.long))

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (N, G, L, D) of all columns: the new ones where columns are computed, the kept ones elsewhere. Those
        of a whole row are kept."""
        rows, columns = self.window.rows, self.window.columns
        if columns is None:
            if self._kept is None:
                batch, width = self._shape
                shape = (batch, keys.shape[1], width, keys.shape[3])
                self._kept = keys.new_zeros(shape), values.new_zeros(shape)
            self._kept[0][rows], self._kept[1][rows] = keys, values
            return keys, values
        assert self._kept is not None, "a block begins with all columns"
        index = columns[:, None, :, None].expand_as(keys)
        return self._kept[0][rows].scatter(2, index, keys), self._kept[1][rows].scatter(2, index, values)


class BlockCache:
    """Chooses what is computed, and computes it.

    Args:
        kind: none, prefix or dual.
        ids: (B, L) int64; it is read at every evaluation.
        mask: (B, L) bool, real columns.
    """

    def __init__(self, kind: str, model: DreamModel, ids: Tensor, mask: Tensor) -> None:
        self.kind, self.model, self.ids, self.mask = kind, model, ids, mask
        self._layers = None if kind == "none" else [_LayerCache(*ids.shape) for _ in model.blocks]

    def windows(self, turn: Turn, rows: Tensor) -> list[Window]:
        """The evaluations that these rows ((N,) int64) need: whole rows where a block begins, else the columns that the block
        is predicted from (`dual`), or those and all right of them (`prefix`)."""
        if self._layers is None:
            return [Window(rows)] if len(rows) else []
        begins = turn.begins[rows]
        whole, rest = rows[begins], rows[~begins]
        found = [Window(whole)] if len(whole) else []
        if len(rest):
            first = (turn.first[rest] - 1).clamp(min=0)  # the state before a block predicts its first column
            last = (turn.stop[rest] if self.kind == "dual" else self.mask[rest].sum(-1)) - 1
            steps = torch.arange(int((last - first).max()) + 1, device=rows.device)
            found.append(Window(rest, torch.minimum(first[:, None] + steps, last[:, None])))
        return found

    def hidden(self, window: Window) -> Tensor:
        """(N, W, D): the states of the computed columns."""
        ids, mask = self.ids[window.rows], self.mask[window.rows]
        for layer in self._layers or ():
            layer.window = window
        if window.columns is None:
            return self.model.hidden(ids, attention_mask=mask, caches=self._layers)
        ids = ids.gather(1, window.columns)
        return self.model.hidden(ids, attention_mask=mask, positions=window.columns, caches=self._layers)


def check(cfg: PredictorConfig, *, causal: bool) -> None:
    """Raise `ConfigError` for a cache that is none."""
    if cfg.cache not in CACHES:
        raise ConfigError(f"predictor.cache={cfg.cache!r} is unknown", f"One of {', '.join(CACHES)}.")
    if cfg.cache != "none" and cfg.block_size is None:
        what = f"predictor.cache={cfg.cache} keeps what is outside a block, and there are no blocks"
        raise ConfigError(what, "Set predictor.block_size, or predictor.cache=none.")
    if cfg.cache != "none" and causal:
        what = f"predictor.cache={cfg.cache} computes some columns of a row, which a causal network cannot place"
        raise ConfigError(what, "Set predictor.cache=none or model.causal=false.")
