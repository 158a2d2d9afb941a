"""Schedules of events in time: a(t) is the probability that a token's event, its insertion or its unmasking, is over by time t.

Time runs from 0 to 1, and every schedule has a(0) = 0 and a(1) = 1 exactly. What is left, 1 - a(t), has a closed form of its
own without cancellation, because hazards divide by it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from xlm_core.errors import ConfigError
from xlm_family_flexmdm.config import ScheduleConfig

LARGEST = 700
"""exp(-x) is a normal float64 below this."""


class Schedule(ABC):
    """Functions of times in [0, 1], elementwise, in the dtype of the argument; float64 where it matters."""

    @abstractmethod
    def value(self, t: Tensor) -> Tensor:
        """a(t)."""

    @abstractmethod
    def remaining(self, t: Tensor) -> Tensor:
        """1 - a(t)."""

    @abstractmethod
    def derivative(self, t: Tensor) -> Tensor:
        """da/dt, at least 0."""

    @abstractmethod
    def inverse(self, a: Tensor) -> Tensor:
        """The time t at which a(t) = a."""

    def hazard(self, t: Tensor) -> Tensor:
        """a'(t) / (1 - a(t)): the rate of the event at t < 1, given that it is not over."""
        return self.derivative(t) / self.remaining(t)

    def step(self, t: Tensor, s: Tensor) -> Tensor:
        """(a(s) - a(t)) / (1 - a(t)): the probability that the event is over by s > t, given that it is not by t < 1."""
        return 1 - self.remaining(s) / self.remaining(t)


@dataclass(frozen=True)
class Linear(Schedule):
    """a(t) = t. The schedule of all published runs."""

    def value(self, t: Tensor) -> Tensor:
        return t

    def remaining(self, t: Tensor) -> Tensor:
        return 1 - t

    def derivative(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def inverse(self, a: Tensor) -> Tensor:
        return a


@dataclass(frozen=True)
class Sine(Schedule):
    """a(t) = sin(pi t / 2): early events."""

    def value(self, t: Tensor) -> Tensor:
        return torch.sin(t * (math.pi / 2))

    def remaining(self, t: Tensor) -> Tensor:
        return 2 * torch.sin((1 - t) * (math.pi / 4)).square()

    def derivative(self, t: Tensor) -> Tensor:
        return torch.sin((1 - t) * (math.pi / 2)) * (math.pi / 2)

    def inverse(self, a: Tensor) -> Tensor:
        return 1 - torch.asin(((1 - a) / 2).sqrt()) * (4 / math.pi)


@dataclass(frozen=True)
class Cosine(Schedule):
    """a(t) = 1 - cos(pi t / 2): late events. The hazard is (pi / 2) tan(pi t / 2)."""

    def value(self, t: Tensor) -> Tensor:
        return 2 * torch.sin(t * (math.pi / 4)).square()

    def remaining(self, t: Tensor) -> Tensor:
        return torch.sin((1 - t) * (math.pi / 2))

    def derivative(self, t: Tensor) -> Tensor:
        return torch.sin(t * (math.pi / 2)) * (math.pi / 2)

    def inverse(self, a: Tensor) -> Tensor:
        return torch.asin((a / 2).sqrt()) * (4 / math.pi)


@dataclass(frozen=True)
class Polynomial(Schedule):
    """a(t) = t ** power."""

    power: float

    def value(self, t: Tensor) -> Tensor:
        return t**self.power

    def remaining(self, t: Tensor) -> Tensor:
        return -torch.expm1(self.power * t.log())

    def derivative(self, t: Tensor) -> Tensor:
        return self.power * t ** (self.power - 1)

    def inverse(self, a: Tensor) -> Tensor:
        return a ** (1 / self.power)


@dataclass(frozen=True)
class Geometric(Schedule):
    """exp(-sigma(t)) with sigma(t) = first^(1 - t) last^t, scaled linearly to go from 0 to 1."""

    first: float
    last: float

    @property
    def _ratio(self) -> float:
        return math.log(self.first / self.last)

    @property
    def _range(self) -> float:
        """exp(-last) - exp(-first)."""
        return -math.exp(-self.last) * math.expm1(self.last - self.first)

    def value(self, t: Tensor) -> Tensor:
        above = -self.first * torch.expm1(-t * self._ratio)  # first - sigma(t)
        return math.exp(-self.first) * torch.expm1(above) / self._range

    def remaining(self, t: Tensor) -> Tensor:
        above = self.last * torch.expm1((1 - t) * self._ratio)  # sigma(t) - last
        return -math.exp(-self.last) * torch.expm1(-above) / self._range

    def derivative(self, t: Tensor) -> Tensor:
        sigma = self.first * torch.exp(-t * self._ratio)
        return torch.exp(-sigma) * sigma * (self._ratio / self._range)

    def inverse(self, a: Tensor) -> Tensor:
        above = torch.log1p(a * (self._range * math.exp(self.first)))
        return -torch.log1p(-above / self.first) / self._ratio


def schedule(cfg: ScheduleConfig) -> Schedule:
    """The schedule that a config describes.

    Raises:
        ConfigError: there is none of that name, or its numbers make a(t) fall.
    """
    if cfg.power <= 0 or not LARGEST > cfg.first > cfg.last > 0:
        what = f"a schedule needs power > 0 and {LARGEST} > first > last > 0"
        raise ConfigError(what, "Correct model.insertion and model.unmasking.")
    known: dict[str, Schedule] = {
        "linear": Linear(),
        "sin": Sine(),
        "cosine": Cosine(),
        "polynomial": Polynomial(cfg.power),
        "geometric": Geometric(cfg.first, cfg.last),
    }
    if cfg.name not in known:
        raise ConfigError(f"there is no schedule {cfg.name!r}", f"One of {', '.join(known)}.")
    return known[cfg.name]
