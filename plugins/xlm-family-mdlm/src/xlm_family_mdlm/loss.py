"""The negative evidence lower bound of masked diffusion, arXiv 2406.07524, eq. 10."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from xlm_core.errors import ConfigError
from xlm_core.losses.vocabulary import linear_cross_entropy
from xlm_core.noise.schedules import schedule
from xlm_core.noise.times import low_discrepancy, stratum
from xlm_core.protocols import LossOutput, Ratio, Scores
from xlm_core.sampling.random import RowRandom
from xlm_family_mdlm.collator import MdlmBatch
from xlm_family_mdlm.config import LossConfig
from xlm_family_mdlm.model import MdlmModel, readable

STREAM = 1
"""The loss's own random numbers: a decoder with the same seed and draw uses others."""
ESTIMATORS = ("time", "count")


class Noise(NamedTuple):
    """Which columns of each row are masked, and what that is worth."""

    masked: Tensor
    """(B, L) bool."""
    weight: Tensor
    """(B,) float: of each masked column's loss."""
    level: Tensor
    """(B,) float: the noise level c(t), for networks that read it."""


class MdlmLoss:
    """For a row with n free columns, c(t) the probability that one is masked and x the row with the masked ones hidden:

        time:  nll = c'(t) / c(t) * sum over masked columns of -log p(token | x)        t uniform, c(t) >= min_noise
        count: nll = n / k        * sum over masked columns of -log p(token | x)        k uniform on 1 .. n, a random k masked
        loss = sum of nll over rows / number of tokens

    The mean of both is an upper bound of -log p(row), equal to it where the network's conditionals are exact; `count` is the
    integral over t of `time` done by hand. p is the softmax over all tokens but the mask. Columns behind a visible end are
    padding with certainty and cost nothing (`readable`). Tokens are the free columns that are no padding, EOS included.
    """

    def __init__(self, cfg: LossConfig, model: MdlmModel) -> None:
        for name in ("train_estimator", "eval_estimator"):
            if getattr(cfg, name) not in ESTIMATORS:
                raise ConfigError(f"loss.{name}={getattr(cfg, name)!r} is unknown", f"One of {', '.join(ESTIMATORS)}.")
        if cfg.eval_samples < 1 or not 0 <= cfg.min_noise < 1:
            raise ConfigError("loss.eval_samples must be at least 1 and loss.min_noise in [0, 1)", "Correct the config.")
        self.cfg = cfg
        self.model = model
        self.schedule = schedule(cfg.schedule)

    def __call__(self, batch: MdlmBatch, *, seed: int) -> LossOutput:
        copies = list(self.noises(batch, seed))
        rows = torch.stack([self.nll(batch, noise) for noise in copies]).mean(0)
        counted = batch["free"] if self.cfg.count_padding else batch["free"] & batch["attention_mask"]
        tokens = counted.sum(-1).to(rows.dtype)
        weight = tokens.sum()
        ratio = Ratio(rows.detach(), tokens)
        return LossOutput(rows.sum() / weight.clamp(min=1), weight, {"loss": ratio, "nll": ratio})

    def log_likelihood(self, batch: MdlmBatch, *, seed: int) -> Scores:
        """An estimate of the lower bound with `eval_samples` noised copies. See `xlm_core.protocols.LikelihoodScorer`.

        Masks that stand behind a text that may go on are not revealed before it: revealing the text's columns alone, in any
        order, is a bound as well, of what the network says of texts of every ending.
        """
        waiting = batch["input_ids"] == self.model.specials.mask
        free = (batch["free"] | waiting).sum(-1).clamp(min=1)
        levels = ((noise, (noise.masked | waiting).sum(-1).double() / free) for noise in self.noises(batch, seed))
        rows = [self.nll(batch, noise._replace(level=level)) for noise, level in levels]
        return Scores(-torch.stack(rows).double().mean(0))

    def noises(self, batch: MdlmBatch, seed: int) -> Iterator[Noise]:
        """One noise in training, `eval_samples` in evaluation. Functions of the seed and the draws alone, on the device."""
        training = self.model.training
        estimator = self.cfg.train_estimator if training else self.cfg.eval_estimator
        samples = 1 if training else self.cfg.eval_samples
        random = RowRandom(seed, batch["draw"], STREAM)
        spread = low_discrepancy(seed, batch["draw"], STREAM)
        for index in range(samples):
            uniform = random.uniform(index, (batch["free"].shape[1],))
            yield getattr(self, f"{estimator}_noise")(batch["free"], stratum(spread, index, samples), uniform)

    def time_noise(self, free: Tensor, place: Tensor, uniform: Tensor) -> Noise:
        """Each free column is masked with probability c(t), where t is `place` of the way from the least time to 1.

        The weight is c'(t) / c(t) times what makes the mean one over noise levels that are uniform on (min_noise, 1).

        Args:
            free: (B, L) bool.
            place: (B,) float64 in (0, 1).
            uniform: (B, L) float64 in (0, 1).
        """
        least = self.schedule.inverse(place.new_full((), self.cfg.min_noise))
        t = least + (1 - least) * place
        level = self.schedule.masked(t)
        weight = self.schedule.weight(t) * ((1 - least) / (1 - self.cfg.min_noise))
        return Noise(free & (uniform < level[:, None]), weight, level)

    def count_noise(self, free: Tensor, place: Tensor, uniform: Tensor) -> Noise:
        """k free columns are masked: those with the smallest numbers. Arguments as in `time_noise`.

        Given k, the noise level has the law Beta(k, n - k + 1), which is that of the k-th smallest of the n numbers.
        """
        n = free.sum(-1)
        k = (place * n).long().clamp_(max=n - 1) + 1
        ordered = uniform.masked_fill(~free, 1.0).sort(-1).values
        level = ordered.gather(1, (k - 1).clamp(min=0)[:, None])[:, 0]
        return Noise(free & (uniform <= level[:, None]), n / k.clamp(min=1), level)

    def nll(self, batch: MdlmBatch, noise: Noise) -> Tensor:
        """(B,) float, in nats: the weighted loss of each row under this noise."""
        clean, mask_id = batch["input_ids"], self.model.specials.mask
        ids = clean.masked_fill(noise.masked, mask_id)
        # Documents of a packed row end within it, and are kept apart by their segments.
        valid = None if "segment_ids" in batch else readable(ids, batch["start"], self.model.specials)
        # The one place where the host asks the device, before the network is launched.
        scored = (noise.masked if valid is None else noise.masked & valid).flatten().nonzero()[:, 0]
        hidden_BLD = self.model.hidden(
            ids, valid, noise.level, segment_ids=batch.get("segment_ids"), positions=batch.get("positions")
        )
        tokens = clean.flatten()[scored]
        words = _without(self.model.head.weight, mask_id)
        values = linear_cross_entropy(hidden_BLD.flatten(0, 1)[scored], words, tokens - (tokens > mask_id).long())
        columns = values.new_zeros(ids.numel()).index_copy(0, scored, values).view(ids.shape)
        return columns.sum(-1) * noise.weight.to(values.dtype)


def _without(weight: Tensor, row: int) -> Tensor:
    """The head of all tokens but one: an impossible token is left out of the softmax, not given a large negative logit."""
    return torch.cat([weight[:row], weight[row + 1 :]])
