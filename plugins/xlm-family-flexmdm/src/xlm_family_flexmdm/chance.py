"""The random numbers of a decode: each step has its own, for each thing that it draws."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from torch import Tensor

from xlm_core.sampling.random import RowRandom


class Use(IntEnum):
    """What numbers are for."""

    REVEAL = 0
    """(W,) which masks are due."""
    TOKEN = 1
    """(W,) the token of each column."""
    GAP = 2
    """(1,) rounded: the offset; (W,) drawn: the number believed to be missing in each gap."""
    CANDIDATE = 3
    """(R,) which of the missing tokens are inserted."""
    TOTAL = 4
    """() poisson: how many are inserted in all."""
    PLACE = 5
    """(R,) poisson: the gap of each."""


@dataclass(frozen=True)
class Chance:
    """The numbers of one step, for some rows of a batch. A row's are functions of its draw, the seed and the step."""

    random: RowRandom
    step: int
    rows: Tensor
    """(N,) int64."""

    def __call__(self, use: Use, *shape: int) -> Tensor:
        """(N, *shape) float64, uniform on (0, 1). A longer row begins with the same numbers."""
        return self.random.uniform(self.step * len(Use) + use, shape)[self.rows]
