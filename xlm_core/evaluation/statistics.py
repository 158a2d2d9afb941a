"""Means with their standard errors, from sums that add up over batches and ranks in any grouping."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from xlm_core.protocols import Ratio


@dataclass(frozen=True)
class Estimate:
    """A measured number."""

    value: float
    stderr: float | None
    """Standard error; None where fewer than two rows were measured."""
    n: int
    """Rows measured."""

    def __str__(self) -> str:
        error = "" if self.stderr is None else f" ± {self.stderr:.2g}"
        return f"{self.value:.4g}{error} (n={self.n:,})"

    def exp(self) -> Estimate:
        """The estimate of exp(value), by the delta method."""
        value = math.exp(min(self.value, 700.0))
        return Estimate(value, None if self.stderr is None else value * self.stderr, self.n)

    def scaled(self, factor: float) -> Estimate:
        return Estimate(self.value * factor, None if self.stderr is None else self.stderr * abs(factor), self.n)


class RatioMeter:
    """Estimates sum(x) / sum(w) over rows with totals x and counts w.

    The standard error is that of a ratio of means (Cochran, 1977, "Sampling techniques", eq. 2.46), rows being the units:
    sqrt(n / (n - 1) * sum((x - r w)^2)) / sum(w). Rows whose count is 0 do not count.
    """

    def __init__(self) -> None:
        self._sums: Tensor | None = None

    def update(self, ratio: Ratio) -> None:
        """Add rows. Nothing is read back from the device."""
        import torch

        x, w = ratio.total.detach().double(), ratio.count.detach().double()
        x = torch.where(w > 0, x, 0.0)
        sums = torch.stack([(w > 0).double().sum(), x.sum(), w.sum(), (x * x).sum(), (x * w).sum(), (w * w).sum()])
        self._sums = sums if self._sums is None else self._sums + sums

    def state(self, device: torch.device | str = "cpu") -> Tensor:
        """(6,) float64 on `device`. States of different rows add up."""
        import torch

        return torch.zeros(6, dtype=torch.float64, device=device) if self._sums is None else self._sums.to(device)

    def estimate(self, state: Tensor | None = None) -> Estimate | None:
        """The mean so far, or of a summed state; None when no row counted."""
        n, x, w, xx, xw, ww = (self.state() if state is None else state).tolist()
        if w == 0:
            return None
        r = x / w
        if n < 2:
            return Estimate(r, None, int(n))
        squares = max(0.0, xx - 2 * r * xw + r * r * ww)
        return Estimate(r, math.sqrt(n / (n - 1) * squares) / w, int(n))
