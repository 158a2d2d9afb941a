"""What a length head says of each gap: how many tokens are expected to be missing, or the law of their number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from xlm_core.sampling.categorical import categorical


@dataclass(frozen=True)
class Expectation:
    """The expected number of missing tokens."""

    log_mean: Tensor
    """(B, L) float: its logarithm."""

    def loss(self, missing: Tensor) -> Tensor:
        """(B, L): mean - y + y (log y - log mean), the divergence of the Poisson law; 0 where the mean is the truth.

        Args:
            missing: (B, L) int64, y.
        """
        y = missing.to(self.log_mean.dtype)
        return self.log_mean.exp() - y + torch.xlogy(y, y) - y * self.log_mean


@dataclass(frozen=True)
class Distribution:
    """The law of the number of missing tokens."""

    log_law: Tensor
    """(B, L, K + 1) float: log probabilities of 0 .. K."""

    @property
    def log_mean(self) -> Tensor:
        """(B, L): the logarithm of the expected number."""
        numbers = torch.arange(1, self.log_law.shape[-1], device=self.log_law.device, dtype=self.log_law.dtype)
        return (self.log_law[..., 1:] + numbers.log()).logsumexp(-1)

    def loss(self, missing: Tensor) -> Tensor:
        """(B, L): -log p(y), where more than K counts as K."""
        classes = missing.clamp(max=self.log_law.shape[-1] - 1)
        return -self.log_law.gather(-1, classes[..., None])[..., 0]

    def drawn(self, uniform: Tensor) -> Tensor:
        """(B, L) int64: numbers from the law. `uniform`: (B, L) float64 in (0, 1)."""
        return categorical(self.log_law, uniform).index


Gaps: TypeAlias = Expectation | Distribution
