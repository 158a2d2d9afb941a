"""Counter-based random numbers: a row's noise is a function of (seed, draw, what it is for), and of nothing else.

A row gets the same numbers in any batch, on any rank, after any resume, and on CPU and GPU alike. The bits are those of the
SplitMix64 finaliser (Steele, Lea & Flood, 2014, "Fast splittable pseudorandom number generators"), applied to the running key
once a word.
"""

from __future__ import annotations

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed word
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift of signed 64-bit words."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


class RowRandom:
    """Random numbers for the rows of a batch.

    Args:
        seed: of the run.
        draw: (B,) int64, `Batch["draw"]`.
        stream: tells apart independent uses with one seed, as "loss" and "predict"; any small integer.
    """

    def __init__(self, seed: int, draw: Tensor, stream: int = 0) -> None:
        start = torch.full_like(draw, (seed * 4 + 1) % (1 << 63))
        key = _mix(start + torch.full_like(draw, stream + 1) * _GOLDEN)
        self._key = _mix(key ^ (draw * _GOLDEN + 1))

    def bits(self, step: int | Tensor, shape: tuple[int, ...] = ()) -> Tensor:
        """(B, *shape) int64, every bit uniform.

        Args:
            step: which call this is: equal steps give equal numbers. An integer, or (B,) int64 with one a row.
            shape: numbers for each row. A longer last dimension of a one-dimensional shape begins with the same numbers.
        """
        key = _mix(self._key + _GOLDEN * (torch.as_tensor(step, device=self._key.device) + 1))
        count = int(torch.Size(shape).numel())
        index = torch.arange(1, count + 1, device=key.device) * _GOLDEN
        return _mix(_mix(key[:, None] + index)).view(len(key), *shape)

    def uniform(self, step: int | Tensor, shape: tuple[int, ...] = ()) -> Tensor:
        """(B, *shape) float64, uniform on the 2**52 midpoints in (0, 1): never 0 and never 1."""
        return (_shift_right(self.bits(step, shape), 12).double() + 0.5) * 2.0**-52

    def integers(self, step: int | Tensor, high: Tensor) -> Tensor:
        """(B,) int64, uniform on 0 .. high - 1.

        Args:
            high: (B,) int64, at least 1. The bias is below high / 2**52.
        """
        return (self.uniform(step) * high).long().clamp_(max=high - 1)

    def permutation_ranks(self, step: int | Tensor, valid: Tensor) -> Tensor:
        """(B, L) int64: each valid column's place in a uniformly random order of the row's valid columns.

        Invalid columns come after all valid ones. Ranks of a row do not depend on how far it is padded on the right.

        Args:
            valid: (B, L) bool.
        """
        keys = self.uniform(step, (valid.shape[1],)).masked_fill(~valid, 2.0)
        return keys.argsort(dim=-1, stable=True).argsort(dim=-1)
