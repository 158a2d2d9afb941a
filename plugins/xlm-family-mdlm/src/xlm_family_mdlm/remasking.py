"""Decoding with second thoughts: visible tokens may be masked again (ReMDM; Wang et al., 2025, arXiv 2503.00307)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from xlm_core.errors import ConfigError
from xlm_core.noise.schedules import Schedule
from xlm_core.sampling.random import RowRandom
from xlm_family_mdlm.config import RemaskConfig
from xlm_family_mdlm.denoiser import Denoiser, Moment
from xlm_family_mdlm.window import Window


class Steps(NamedTuple):
    """What happens in each of T steps; all (T,) float64."""

    time: Tensor
    """Before the step."""
    noise: Tensor
    """c(time)."""
    reveal: Tensor
    """Probability that a masked column gets a token."""
    remask: Tensor
    """Probability that a visible token is masked again."""

    def on(self, device: torch.device) -> Steps:
        """The same, on a device."""
        return Steps(*(values.to(device) for values in self))


def steps(cfg: RemaskConfig, schedule: Schedule, count: int) -> Steps:
    """With alpha = 1 - c, going from t to s, for a probability sigma of remasking (sections 3 and 4 of the paper):

        sigma <= sigma_max = min(1, c(s) / alpha(t))
        reveal = (alpha(s) - (1 - sigma) alpha(t)) / c(t) = 1 - c(s) / c(t) + sigma alpha(t) / c(t)

    so that a share c(s) of the columns is masked at s whatever sigma is.
    """
    grid = 1 - torch.arange(count + 1, dtype=torch.float64) / count
    warped = _warp(grid, cfg, schedule)
    t, s = warped[:-1], warped[1:]
    most = (schedule.masked(s) / schedule.alpha(t).clamp(min=1e-300)).clamp_(max=1.0)  # alpha(1) is 0
    sigma = most.clamp(max=cfg.eta) if cfg.strategy == "cap" else most * cfg.eta
    sigma = torch.where((grid[:-1] <= cfg.begin) & (grid[1:] >= cfg.end), sigma, 0.0)
    # The confidence variant spreads sigma over visible tokens only; masked ones are revealed as if there were none.
    extra = 0.0 if cfg.confidence else sigma * schedule.alpha(t) / schedule.masked(t)
    return Steps(grid[:-1], schedule.masked(t), (schedule.reveal(t, s) + extra).clamp_(max=1.0), sigma)


def _warp(grid: Tensor, cfg: RemaskConfig, schedule: Schedule) -> Tensor:
    """The times of the schedule at the times of the sampler: the same, or standing still from `begin` to `end` with `hold`."""
    if cfg.hold is None:
        return grid
    held = schedule.inverse(torch.tensor(1 - cfg.hold, dtype=grid.dtype))
    before = held + (1 - held) * (grid - cfg.begin) / max(1 - cfg.begin, 1e-12)
    after = held * grid / max(cfg.end, 1e-12)
    return torch.where(grid > cfg.begin, before, torch.where(grid < cfg.end, after, held))


def check(cfg: RemaskConfig) -> None:
    """Raises `ConfigError` for values that make no probabilities."""
    if cfg.strategy not in ("cap", "rescale"):
        raise ConfigError(f"predictor.remask.strategy={cfg.strategy!r} is unknown", "One of cap, rescale.")
    if not 0 <= cfg.eta <= 1:
        raise ConfigError(f"predictor.remask.eta={cfg.eta} is no probability", "Take it from [0, 1].")
    if not 0 <= cfg.end <= cfg.begin <= 1:
        raise ConfigError("predictor.remask needs 0 <= end <= begin <= 1", "Time runs from 1 to 0.")
    if cfg.hold is not None and not (0 < cfg.hold < 1 and cfg.end > 0 and cfg.begin < 1):
        hint = "The paper has 0.9, 0.55 and 0.05."
        raise ConfigError("predictor.remask needs hold, begin and end strictly between 0 and 1 to hold", hint)


def remasking(
    window: Window, denoiser: Denoiser, random: RowRandom, plan: Steps, *, confidence: bool = False, greedy: bool = False
) -> None:
    """Go through the steps of `plan`. Rows go at their own pace: one waits only where its next step needs the network.

    Args:
        confidence: share the probability of remasking out by how improbable each token was.
        greedy: the last step takes the most probable tokens.
    """
    plan = plan.on(window.ids.device)
    count, columns = len(plan.time), window.ids.shape[1]
    step = torch.zeros_like(window.start)
    while bool((step < count).any()):
        now = step.clamp(max=count - 1)
        time, noise, reveal, remask = (x[now][:, None] for x in (plan.time, plan.noise, plan.reveal, plan.remask))
        chance = random.uniform(2 * now, (columns,))
        masked, readable = denoiser.masked(window), denoiser.readable(window)
        revealed = masked & (chance < reveal)
        again = window.free & ~masked & (chance < (remask * _doubt(window, masked) if confidence else remask))
        needs = (revealed & readable).any(-1)
        acting = (step < count) & ~needs
        if not bool(acting.any()):
            acting = step < count
            moment = Moment(time[:, 0], noise[:, 0], now == count - 1 if greedy else None)
            denoiser.fill(window, revealed & readable & acting[:, None], moment, random.uniform(2 * now + 1, (columns,)))
        _write(window, denoiser, revealed & ~readable & acting[:, None], again & acting[:, None], time[:, 0])
        step = step + acting.long()


def _doubt(window: Window, masked: Tensor) -> Tensor:
    """(B, L): shares of the visible free columns, which add up to 1: softmax of minus the probability of each token."""
    visible = window.free & ~masked
    return (-window.confidence).masked_fill(~visible, torch.finfo(torch.float64).min).softmax(-1)


def _write(window: Window, denoiser: Denoiser, ended: Tensor, again: Tensor, time: Tensor) -> None:
    """What needs no network: padding behind a row's end, and masks."""
    window.confidence[ended] = 1.0
    for operation, where, token in (("unmask", ended, denoiser.specials.pad), ("remask", again, denoiser.specials.mask)):
        window.ids[where] = token
        denoiser.record(operation, window, where, (denoiser.nfe - 1).clamp(min=0), time)  # type: ignore[arg-type]
