"""Diffusion times that are spread evenly over all rows of a step, wherever the rows are computed.

A row's number is a function of its draw number, so no process has to know what the others drew: consecutive draws are
stratified over ranks, accumulated micro-batches and any other division of a step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xlm_core.sampling.random import RowRandom

_GOLDEN = -7046029254386353131  # 2**64 / golden ratio, odd, as a signed word


def low_discrepancy(seed: int, draw: Tensor, stream: int = 0) -> Tensor:
    """frac(u + draw / golden ratio) with u uniform, fixed by (seed, stream): the additive recurrence of least discrepancy.

    Any N consecutive draws have a number in every interval of length 2 / N, and each number alone is uniform. Computed in
    64-bit integers, so it is as even at draw 2**60 as at 0.

    Args:
        draw: (B,) int64.
        stream: tells apart independent uses with one seed.

    Returns:
        (B,) float64 in (0, 1): never 0 and never 1.
    """
    start = RowRandom(seed, torch.zeros_like(draw[:1]), stream).bits(0)
    word = start + draw * _GOLDEN
    return (((word >> 12) & ((1 << 52) - 1)).double() + 0.5) * 2.0**-52


def stratum(uniform: Tensor, index: int, count: int) -> Tensor:
    """The index-th of `count` numbers that are spread evenly over (0, 1) in a row; each alone is uniform when `uniform` is.

    Args:
        uniform: (B,) float in (0, 1).
        index: from 0.
    """
    return (uniform + index) / count
