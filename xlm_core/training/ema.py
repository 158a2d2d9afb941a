"""Exponential moving average of the weights, on Lightning's own weight averaging."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class Ema(WeightAveraging):
    """Averages after every optimiser step, evaluates with the average, and saves it as the checkpoint's `state_dict`.

    Whoever loads a checkpoint for evaluation or generation therefore gets the averaged weights; resuming gets both.

    Args:
        decay: at update n the average keeps min(decay, (1 + n) / (10 + n)) of itself.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=False, multi_avg_fn=_average(decay))


def _average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        n = int(count)
        keep = min(decay, (1 + n) / (10 + n))
        torch._foreach_lerp_(list(averaged), list(current), 1 - keep)

    return update
