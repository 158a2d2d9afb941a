"""Means with their uncertainty, from sums that add up over batches and ranks in any grouping; and the bootstrap for others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from xlm_core.protocols import Ratio


Z95 = 1.959963984540054
"""The normal quantile of 97.5 %."""


@dataclass(frozen=True)
class Estimate:
    """A measured number."""

    value: float
    stderr: float | None
    """Standard error; None where fewer than two rows were measured."""
    n: int
    """Rows measured."""
    interval: tuple[float, float] | None = None
    """95 % confidence: Wilson's for a share of rows, percentiles of the bootstrap where that was used, else None."""

    def __str__(self) -> str:
        error = "" if self.stderr is None else f" ± {self.stderr:.2g}"
        return f"{self.value:.4g}{error} (n={self.n:,})"

    def exp(self) -> Estimate:
        """The estimate of exp(value), by the delta method."""
        value, *ends = (math.exp(min(x, 700.0)) for x in (self.value, *(self.interval or ())))
        return Estimate(value, None if self.stderr is None else value * self.stderr, self.n, _pair(ends))

    def scaled(self, factor: float) -> Estimate:
        ends = sorted(x * factor for x in self.interval or ())
        return Estimate(self.value * factor, None if self.stderr is None else self.stderr * abs(factor), self.n, _pair(ends))


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n rows, which is right for shares near 0 and 1 as well (Wilson, 1927)."""
    z2 = Z95 * Z95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap(n: int, statistic: Callable[[NDArray[np.int64]], float], *, resamples: int = 1000, seed: int = 0) -> Estimate:
    """A statistic of n rows that is no mean, with the deviation and the percentiles of its resamples (Efron, 1979).

    Args:
        n: at least 1.
        statistic: of the rows with these indices, (n,) int64; resampled ones have repeats. Resamples for which it is NaN
            are left out.
    """
    random = np.random.default_rng(seed)
    value = statistic(np.arange(n))
    drawn = np.array([statistic(random.integers(0, n, n)) for _ in range(resamples)])
    drawn = drawn[~np.isnan(drawn)]
    if n < 2 or len(drawn) < 2:
        return Estimate(value, None, n)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, float(drawn.std(ddof=1)), n, (float(low), float(high)))


def bootstrap_mean(values: Sequence[float], *, resamples: int = 1000) -> Estimate:
    """The mean of at least one value, with the deviation and the percentiles of its resamples."""
    array = np.array(values, dtype=np.float64)
    return bootstrap(len(array), lambda rows: float(array[rows].mean()), resamples=resamples)


def share(hits: int, n: int) -> Estimate:
    """hits / n, with Wilson's interval; 0 of nothing is 0."""
    return mean([1.0] * hits + [0.0] * (n - hits)) or Estimate(0.0, None, 0)


def mean(values: Sequence[float | None]) -> Estimate | None:
    """The mean of those values that are there, with Wilson's interval where all are 0 or 1; None when there are none."""
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    if not len(known):
        return None
    return _estimate(len(known), known.sum(), len(known), (known * known).sum(), known.sum(), len(known))


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
        return None if w == 0 else _estimate(n, x, w, xx, xw, ww)


def _estimate(n: float, x: float, w: float, xx: float, xw: float, ww: float) -> Estimate:
    r = x / w
    # Counts that are all 1 and totals that are all 0 or 1, a share of rows: no other counts or hits have these sums.
    share = n == w == ww and xx == x == xw
    interval = wilson(r, int(n)) if share else None
    if n < 2:
        return Estimate(r, None, int(n), interval)
    squares = max(0.0, xx - 2 * r * xw + r * r * ww)
    return Estimate(r, math.sqrt(n / (n - 1) * squares) / w, int(n), interval)


def _pair(ends: Sequence[float]) -> tuple[float, float] | None:
    return (ends[0], ends[1]) if ends else None
