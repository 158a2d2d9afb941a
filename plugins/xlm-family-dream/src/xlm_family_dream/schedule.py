"""When masks are revealed: block after block, and in each block so many at a step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from xlm_core.errors import ConfigError
from xlm_family_dream.config import PredictorConfig

SCHEDULES = ("even", "linear")
LAST_TIME = 1e-3
"""linear: time goes from 1 to this, and the last step reveals everything."""


class Turn(NamedTuple):
    """One step of every row that has masks."""

    candidates: Tensor
    """(B, L) bool: the masks of the row's block."""
    share: Tensor
    """(B,) int64: how many of them this step reveals at least; may be 0 with `linear`."""
    rate: Tensor
    """(B,) float64: the probability of each to be revealed, 1 - s / t."""
    begins: Tensor
    """(B,) bool: the row's block has not been evaluated before."""
    first: Tensor
    """(B,) int64: the first column of the block."""
    stop: Tensor
    """(B,) int64: the column behind its last."""


class Schedule:
    """Blocks of `block_size` columns, counted from each row's own start, and the steps that each gets.

    `steps` are shared out by the masks of the blocks, at least one for each. A row's turns depend on that row alone.

    Args:
        cfg: `steps`, `schedule` and `block_size` are read.
        masked: (B, L) bool, all masks at the beginning.
        start, stop: (B,) int64, the columns of the answer.
    """

    def __init__(self, cfg: PredictorConfig, masked: Tensor, start: Tensor, stop: Tensor) -> None:
        self.cfg = cfg
        self._start, self._stop = start, stop
        self._size = cfg.block_size or max(masked.shape[1], 1)
        columns = torch.arange(masked.shape[1], device=masked.device)
        self._block_of = (columns - start[:, None]).clamp(min=0) // self._size
        blocks = -(-masked.shape[1] // self._size)
        counts = masked.new_zeros((len(masked), blocks), dtype=torch.long).scatter_add_(1, self._block_of, masked.long())
        self._steps = counts.clamp(min=1) if cfg.steps is None else _shares(cfg.steps, counts)
        self._block = torch.full_like(start, -1)
        self._evaluated = torch.full_like(start, -1)
        self._step = torch.zeros_like(start)

    def turn(self, masked: Tensor, active: Tensor) -> Turn:
        """The next step of the active rows ((B,) bool), which all have masks; the others stay where they are."""
        block = self._block_of.gather(1, masked.int().argmax(-1, keepdim=True))[:, 0]
        self._step = torch.where(block != self._block, 0, self._step)
        self._block = torch.where(active, block, self._block)
        candidates = masked & active[:, None] & (self._block_of == block[:, None])
        steps = self._steps.gather(1, block[:, None])[:, 0]
        rate, remaining = self._rate(steps), candidates.sum(-1)
        if self.cfg.schedule == "even":
            share = -(-remaining // (steps - self._step).clamp(min=1))
        else:
            share = (remaining * rate).floor().long()
        first = self._start + block * self._size
        self._step = self._step + active
        return Turn(candidates, share, rate, block != self._evaluated, first, torch.minimum(first + self._size, self._stop))

    def evaluated(self, rows: Tensor) -> None:
        """Say that the network has seen these rows ((N,) int64) in this turn: not every turn needs it."""
        self._evaluated[rows] = self._block[rows]

    def _rate(self, steps: Tensor) -> Tensor:
        """1 - s / t, where t goes evenly from 1 to `LAST_TIME` over the steps; 1 in the last."""
        time, then = (1 - (1 - LAST_TIME) * (self._step + n).double() / steps for n in (0, 1))
        return (1 - then / time).masked_fill(self._step >= steps - 1, 1.0)


def _shares(steps: int, counts: Tensor) -> Tensor:
    """(B, N) int64: how many of `steps` each of the blocks gets that have (B, N) masks."""
    until = steps * counts.cumsum(-1) // counts.sum(-1, keepdim=True).clamp(min=1)
    return until.diff(dim=-1, prepend=torch.zeros_like(until[:, :1])).clamp(min=1)


def check(cfg: PredictorConfig) -> None:
    """Raise `ConfigError` for a schedule that is none."""
    if cfg.schedule not in SCHEDULES:
        raise ConfigError(f"predictor.schedule={cfg.schedule!r} is unknown", f"One of {', '.join(SCHEDULES)}.")
    if cfg.steps is not None and cfg.steps < 1:
        raise ConfigError(f"predictor.steps={cfg.steps} leaves no step", "Make it at least 1, or null for one a token.")
    if cfg.block_size is not None and cfg.block_size < 1:
        raise ConfigError(
            f"predictor.block_size={cfg.block_size} holds no column", "Make it at least 1, or null for no blocks."
        )
