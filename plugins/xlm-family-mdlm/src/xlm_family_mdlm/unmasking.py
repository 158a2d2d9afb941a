"""Decoding without second thoughts: every masked column is revealed once.

When a column is revealed depends on chance alone, so it is drawn first, for all columns at once; the network is asked only
where a token is needed. That is exact for any network, whether it reads the time or not. It is also what reusing predictions
between steps without a change comes to: an evaluation is made only for rows in which something changes.
"""

from __future__ import annotations

from torch import Tensor

from xlm_core.noise.schedules import Schedule
from xlm_core.sampling.random import RowRandom
from xlm_family_mdlm.denoiser import Denoiser, Moment
from xlm_family_mdlm.window import Window


def first_hitting(window: Window, denoiser: Denoiser, random: RowRandom, schedule: Schedule) -> None:
    """Reveal one column an evaluation, at the times of the process in continuous time (Zheng et al., 2024, arXiv 2409.02908).

    A masked column is revealed when c(t), going down from 1, passes a level that is uniform on (0, 1). The law is that of
    infinitely many ancestral steps, with at most as many evaluations as there are masked columns.
    """
    level = random.uniform(0, (window.ids.shape[1],))
    _reveal(window, denoiser, random, level, schedule.inverse(level))


def surest(window: Window, denoiser: Denoiser, random: RowRandom, schedule: Schedule, order: str) -> None:
    """Reveal one column an evaluation: the one of which the network is surest (Kim et al., 2025, arXiv 2502.06768).

    A network that reads the time is told that the noise level is the share of columns that are masked.

    Args:
        order: a confidence of `xlm_core.sampling.confidence`.
    """
    uniform = random.uniform(1, (window.ids.shape[1],))
    free = window.free.sum(-1).clamp(min=1)
    while True:
        waiting = denoiser.masked(window) & denoiser.readable(window)
        if not bool(waiting.any()):
            return
        noise = waiting.sum(-1).double() / free
        denoiser.fill(window, waiting, Moment(schedule.inverse(noise), noise), uniform, order)


def ancestral(window: Window, denoiser: Denoiser, random: RowRandom, schedule: Schedule, steps: int, *, greedy: bool) -> None:
    """Reveal columns in `steps` steps of equal time; those of one step are drawn independently of each other.

    In the step from t to s a masked column is revealed with probability 1 - c(s) / c(t) (arXiv 2406.07524, eq. 7), which is the
    same as saying in advance that it is revealed in the step in which c(t) passes a uniform level.

    Args:
        greedy: the last step takes the most probable tokens.
    """
    passed = schedule.inverse(random.uniform(0, (window.ids.shape[1],)))
    step = ((1 - passed) * steps).long().clamp_(0, steps - 1)
    time = 1 - step.double() / steps
    _reveal(window, denoiser, random, schedule.masked(time), time, (step == steps - 1) if greedy else None)


def _reveal(
    window: Window, denoiser: Denoiser, random: RowRandom, level: Tensor, time: Tensor, greedy: Tensor | None = None
) -> None:
    """Reveal columns from the highest level down, those of equal level together. Rows go at their own pace.

    Args:
        level: (B, L) float64: the noise level at which each column is revealed.
        time: (B, L) float64: the time of that level.
        greedy: (B, L) bool: columns that take the most probable token; the same for all of one level.
    """
    uniform = random.uniform(1, (window.ids.shape[1],))
    while True:
        waiting = denoiser.masked(window) & denoiser.readable(window)
        if not bool(waiting.any()):
            return
        noise, first = level.masked_fill(~waiting, -1.0).max(-1)
        here = first[:, None]
        moment = Moment(time.gather(1, here)[:, 0], noise, None if greedy is None else greedy.gather(1, here)[:, 0])
        denoiser.fill(window, waiting & (level == noise[:, None]), moment, uniform)
