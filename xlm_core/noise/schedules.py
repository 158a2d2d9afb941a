"""Noise schedules of masking (absorbing) diffusion.

Time runs from 0 (clean) to 1 (noise). A token is still visible at time t with probability alpha(t) and masked with probability
c(t) = 1 - alpha(t). Every schedule here has c(0) = 0 and c(1) = 1 exactly: all tokens are masked at the end, so the bound that
is integrated over [0, 1] lacks no term, and a sampler's last step leaves no mask behind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from xlm_core.errors import ConfigError


class Schedule(Protocol):
    """Functions of times in [0, 1], elementwise, in the dtype of the argument: any shape, float; float64 where it matters."""

    def alpha(self, t: Tensor) -> Tensor:
        """The probability that a token is visible, without cancellation near t = 1. Decreasing."""
        ...

    def alpha_derivative(self, t: Tensor) -> Tensor:
        """dalpha/dt, at most 0."""
        ...

    def masked(self, t: Tensor) -> Tensor:
        """c(t) = 1 - alpha(t), the probability that a token is masked, without cancellation near t = 0."""
        ...

    def weight(self, t: Tensor) -> Tensor:
        """c'(t) / c(t), for t > 0: the weight of a masked token's loss in the bound (Sahoo et al., 2024, arXiv 2406.07524,
        eq. 10)."""
        ...

    def inverse(self, masked: Tensor) -> Tensor:
        """The time t at which c(t) = masked."""
        ...

    def reveal(self, t: Tensor, s: Tensor) -> Tensor:
        """1 - c(s) / c(t), without cancellation: the probability that a token that is masked at t is visible at s < t, going
        back."""
        ...


@dataclass(frozen=True)
class LogLinear:
    """c(t) = t: the total noise -log(1 - t) is log-linear. The schedule of the published runs."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def alpha_derivative(self, t: Tensor) -> Tensor:
        return torch.full_like(t, -1.0)

    def masked(self, t: Tensor) -> Tensor:
        return t

    def weight(self, t: Tensor) -> Tensor:
        return 1 / t

    def inverse(self, masked: Tensor) -> Tensor:
        return masked

    def reveal(self, t: Tensor, s: Tensor) -> Tensor:
        return (t - s) / t


@dataclass(frozen=True)
class Linear:
    """Total noise linear in time, of a token known to be masked by t = 1: c(t) = (1 - e^(-total t)) / (1 - e^(-total)).

    Knowing it changes neither the weight, total / (e^(total t) - 1), nor the law of the steps.
    """

    total: float = 10.0
    """The noise at t = 1."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-self.total * t) * torch.expm1(-self.total * (1 - t)) / math.expm1(-self.total)

    def alpha_derivative(self, t: Tensor) -> Tensor:
        return torch.exp(-self.total * t) * (self.total / math.expm1(-self.total))

    def masked(self, t: Tensor) -> Tensor:
        return torch.expm1(-self.total * t) / math.expm1(-self.total)

    def weight(self, t: Tensor) -> Tensor:
        return self.total / torch.expm1(self.total * t)

    def inverse(self, masked: Tensor) -> Tensor:
        return torch.log1p(masked * math.expm1(-self.total)) / -self.total

    def reveal(self, t: Tensor, s: Tensor) -> Tensor:
        return torch.exp(-self.total * s) * torch.expm1(-self.total * (t - s)) / torch.expm1(-self.total * t)


@dataclass(frozen=True)
class Cosine:
    """alpha(t) = cos(pi t / 2), so c(t) = 2 sin(pi t / 4)^2."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin((1 - t) * (math.pi / 2))

    def alpha_derivative(self, t: Tensor) -> Tensor:
        return torch.sin(t * (math.pi / 2)) * (-math.pi / 2)

    def masked(self, t: Tensor) -> Tensor:
        return 2 * torch.sin(t * (math.pi / 4)).square()

    def weight(self, t: Tensor) -> Tensor:
        return (math.pi / 2) / torch.tan(t * (math.pi / 4))

    def inverse(self, masked: Tensor) -> Tensor:
        return torch.asin((masked / 2).sqrt()) * (4 / math.pi)

    def reveal(self, t: Tensor, s: Tensor) -> Tensor:
        quarter = math.pi / 4
        return torch.sin((t - s) * quarter) * torch.sin((t + s) * quarter) / torch.sin(t * quarter).square()


SCHEDULES: dict[str, Schedule] = {"log_linear": LogLinear(), "linear": Linear(), "cosine": Cosine()}


def schedule(name: str) -> Schedule:
    """The schedule of a config's name.

    Raises:
        ConfigError: there is none.
    """
    if name not in SCHEDULES:
        raise ConfigError(f"there is no noise schedule {name!r}", f"One of {', '.join(SCHEDULES)}.")
    return SCHEDULES[name]
