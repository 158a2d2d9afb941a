"""The joint loss of insertion and unmasking (arXiv 2509.01025, section 4), and the bound of the likelihood that it gives."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from xlm_core.errors import ConfigError
from xlm_core.losses.vocabulary import linear_cross_entropy
from xlm_core.noise.times import low_discrepancy, stratum
from xlm_core.protocols import LossOutput, Ratio
from xlm_core.sampling.random import RowRandom
from xlm_family_flexmdm import noising
from xlm_family_flexmdm.collator import FlexmdmBatch
from xlm_family_flexmdm.config import LossConfig
from xlm_family_flexmdm.model import FlexmdmModel
from xlm_family_flexmdm.noising import Noised
from xlm_family_flexmdm.schedules import Schedule

STREAM = 1
"""The loss's own random numbers: a decoder with the same seed and draw uses others."""
LATEST = 1 - 1e-9
"""No later time is drawn, so hazards are finite. What is still to happen then is about n * 2e-8 events of a row of n tokens."""
SCALES = ("token", "canvas")


class Times(NamedTuple):
    """One time a row."""

    time: Tensor
    """(B,) float64."""
    weight: Tensor
    """(B,) float64: 1 / density of the time."""


class Parts(NamedTuple):
    """(B,) float each, in nats: estimates of a row's integrals over time."""

    unmask: Tensor
    insertion: Tensor
    nll: Tensor


class FlexmdmLoss:
    """With hazards h = a' / (1 - a), masked columns M and open gaps G of a row at time t, y the tokens missing in a gap and m
    what the network expects there:

        unmask    = integral over t of h_unm(t) * sum over M of -log p(token)
        insertion = integral over t of h_ins(t) * sum over G of [m - y + y log(y / m)]       (length_head: expectation)
                    integral over t of h_ins(t) * sum over G of -log p(y)                    (length_head: distribution)
        loss      = sum over rows of unmask + insertion / number of tokens

        nll       = unmask + integral over t of h_ins(t) * sum over G of [m - y log m]  -  free tokens

    Each integral is estimated at one time, drawn where something happens: a(t) = 1 - (1 - v)^k (`time_power`) for the insertion
    schedule in half the rows and for the unmasking schedule in the others, with v spread evenly over consecutive draws. nll is
    an upper bound of -log p(row) for the process that inserts at rate h_ins m and unmasks at rate h_unm p, and equal to it
    where these are the true conditionals: given where every token of the text was inserted and unmasked and when, it is the
    logarithm of the ratio of the interpolant's density of that history to the network's. Tokens are the free ones and one for
    the end of each stretch of them: in lm and seq2seq that is EOS.
    """

    def __init__(self, cfg: LossConfig, model: FlexmdmModel) -> None:
        if cfg.scale not in SCALES:
            raise ConfigError(f"loss.scale={cfg.scale!r} is unknown", f"One of {', '.join(SCALES)}.")
        if cfg.time_power < 1 or cfg.eval_samples < 1:
            raise ConfigError("loss.time_power and loss.eval_samples must be at least 1", "Correct the config.")
        self.cfg = cfg
        self.model = model

    def __call__(self, batch: FlexmdmBatch, *, seed: int) -> LossOutput:
        samples = 1 if self.model.training else self.cfg.eval_samples
        drawn = [self._parts(batch, seed, index, samples) for index in range(samples)]
        parts = Parts(*(torch.stack(part).mean(0) for part in zip(*drawn, strict=True)))
        rows = parts.unmask + parts.insertion
        tokens = (batch["open"] & batch["attention_mask"]).sum(-1).to(rows.dtype)
        units = tokens if self.cfg.scale == "token" else torch.full_like(tokens, batch["input_ids"].shape[1])
        terms = {"loss": Ratio(rows.detach(), units)}
        terms |= {name: Ratio(value.detach(), tokens) for name, value in parts._asdict().items()}
        weight = units.sum()
        return LossOutput(rows.sum() / weight.clamp(min=1), weight, terms)

    def times(self, batch: FlexmdmBatch, seed: int, index: int = 0, samples: int = 1) -> Times:
        """The index-th of `samples` times of each row: a function of the seed and the draw alone."""
        halves = 2 * stratum(low_discrepancy(seed, batch["draw"], STREAM), index, samples)
        power, insertion, unmasking = self.cfg.time_power, self.model.insertion, self.model.unmasking
        done = 1 - (1 - halves % 1) ** power
        time = torch.where(halves < 1, insertion.inverse(done), unmasking.inverse(done)).clamp(max=LATEST)

        def density(of: Schedule) -> Tensor:
            return of.derivative(time) * of.remaining(time) ** (1 / power - 1) / power

        return Times(time, 2 / (density(insertion) + density(unmasking)))

    def noised(self, batch: FlexmdmBatch, time: Tensor, seed: int, index: int = 0) -> Noised:
        """The rows at their times, on the device."""
        random = RowRandom(seed, batch["draw"], STREAM)
        shape = (batch["free"].shape[1],)
        arrival, reveal = random.uniform(2 * index, shape), random.uniform(2 * index + 1, shape)
        fate = noising.fates(self.model.insertion, self.model.unmasking, time, batch["free"], arrival, reveal)
        return noising.apply(batch["input_ids"], batch["attention_mask"], batch["open"], fate, self.model.specials)

    def _parts(self, batch: FlexmdmBatch, seed: int, index: int, samples: int) -> Parts:
        times = self.times(batch, seed, index, samples)
        return self.parts(self.noised(batch, times.time, seed, index), times, batch["free"].sum(-1))

    def parts(self, noised: Noised, times: Times, free: Tensor) -> Parts:
        """The estimates that rows at their times give.

        Args:
            free: (B,) int64, free tokens of the clean rows.
        """
        # The one place where the host asks the device, before the network is launched.
        scored = noised.masked.flatten().nonzero()[:, 0]
        reading = self.model.read(noised.ids, times.time, noised.mask)
        losses = linear_cross_entropy(
            reading.hidden.flatten(0, 1)[scored], self.model.head.weight, noised.clean.flatten()[scored]
        )
        columns = losses.new_zeros(noised.ids.numel()).index_copy(0, scored, losses).view(noised.ids.shape)
        unmask = columns.sum(-1) * self._weight(times, self.model.unmasking.hazard(times.time), losses)
        hazard = self._weight(times, self.model.insertion.hazard(times.time), losses)
        insertion = _over(noised.open, reading.gaps.loss(noised.gaps)) * hazard
        log_mean = reading.gaps.log_mean
        rate = _over(noised.open, log_mean.exp() - noised.gaps * log_mean) * hazard
        # The integral of h_ins y is known: each free token is inserted once.
        return Parts(unmask, insertion, unmask + rate - free)

    def _weight(self, times: Times, hazard: Tensor, like: Tensor) -> Tensor:
        return (times.weight * hazard).to(like.dtype)


def _over(columns: Tensor, values: Tensor) -> Tensor:
    """(B,): the sum of each row's values over the given columns, both (B, L)."""
    return values.masked_fill(~columns, 0.0).sum(-1)
