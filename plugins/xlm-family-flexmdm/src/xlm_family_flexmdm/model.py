"""The network: a diffusion transformer that predicts the token of every mask, and what is missing in every gap."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xlm_core.canvas import Specials
from xlm_core.errors import ConfigError
from xlm_core.nn.attention import AttentionMask
from xlm_core.nn.dit import DiT, ModulatedNorm, zeroed
from xlm_family_flexmdm.config import ModelConfig
from xlm_family_flexmdm.gaps import Distribution, Expectation, Gaps
from xlm_family_flexmdm.schedules import schedule

HEADS = ("expectation", "distribution")


class Reading(NamedTuple):
    """What the network makes of canvases."""

    hidden: Tensor
    """(B, L, D): states whose products with `head.weight` are the logits of each column's token."""
    gaps: Gaps
    """Of the gap left of each column."""


class LengthHead(nn.Module):
    """What is missing left of each column, in at least float32 whatever the network computes in.

    With `prior_odds`, the odds that anything is missing are multiplied by `remaining`, the probability that one token has not
    been inserted yet. Every token that is still missing makes a canvas that much less probable, so this is how the truth
    behaves towards the end of time; without it a network would have to learn it, to all orders of magnitude.

    Args:
        cfg: sizes and the kind of head. It starts from half a missing token in a gap (`expectation`), or the uniform law.
    """

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.kind, self.unit, self.prior_odds = cfg.length_head, cfg.max_gap, cfg.prior_odds
        outputs = 2 if self.kind == "expectation" else cfg.max_gap + 1
        hidden = cfg.dim if cfg.length_hidden is None else cfg.length_hidden
        inner = [nn.Linear(cfg.dim, hidden), nn.GELU(approximate="tanh")] if hidden else []
        self.norm = ModulatedNorm(cfg.dim, cfg.conditioning_dim)
        self.inner = nn.Sequential(*inner)
        self.outer = zeroed(nn.Linear(hidden or cfg.dim, outputs))
        if self.kind == "expectation":
            nn.init.constant_(self.outer.bias[:1], math.log(math.expm1(1 / self.unit)))

    def forward(self, x_BLD: Tensor, conditioning_BC: Tensor, remaining: Tensor) -> Gaps:
        """The gaps of (B, L) columns.

        Args:
            remaining: (B,) float64, 1 - a_ins at each row's time.
        """
        wide = self.outer.weight.dtype
        with torch.autocast(x_BLD.device.type, enabled=False):
            out = self.outer(self.inner(self.norm(x_BLD.to(wide), conditioning_BC.to(wide))))
            prior = remaining.log().to(wide)[:, None] if self.prior_odds else None
            return self._expectation(out, prior) if self.kind == "expectation" else self._distribution(out, prior)

    def _expectation(self, out_BL2: Tensor, prior: Tensor | None) -> Expectation:
        raw, odds = out_BL2.unbind(-1)
        log_mean = log_softplus(raw) + math.log(self.unit)
        return Expectation(log_mean if prior is None else log_mean + F.logsigmoid(odds + prior))

    def _distribution(self, out_BLK: Tensor, prior: Tensor | None) -> Distribution:
        none, some = out_BLK.split((1, self.unit), dim=-1)
        return Distribution(torch.cat([none, some if prior is None else some + prior[..., None]], dim=-1).log_softmax(-1))


class FlexmdmModel(DiT):
    """DiT, bidirectional, conditioned on the time, with a length head.

    Args:
        cfg: sizes, schedules and the kind of length head.
        vocab_size: V.
        specials: ids of the special tokens.
    """

    def __init__(self, cfg: ModelConfig, vocab_size: int, specials: Specials) -> None:
        super().__init__(cfg, vocab_size)
        if cfg.length_head not in HEADS:
            raise ConfigError(f"model.length_head={cfg.length_head!r} is unknown", f"One of {', '.join(HEADS)}.")
        if cfg.max_gap < 1:
            raise ConfigError(f"model.max_gap={cfg.max_gap} is too small", "Make it at least 1.")
        self.insertion, self.unmasking = schedule(cfg.insertion), schedule(cfg.unmasking)
        self.specials, self.length_head = specials, cfg.length_head
        self.length = LengthHead(cfg)

    def read(self, input_ids: Tensor, time: Tensor, attention_mask: Tensor) -> Reading:
        """States and gaps of canvases.

        Args:
            input_ids: (B, L) int64, padded on the right.
            time: (B,) float64 in [0, 1].
            attention_mask: (B, L) bool.
        """
        conditioning_BC = self.conditioning(time)
        x_BLD = self.trunk(input_ids, conditioning_BC, mask=AttentionMask(valid=attention_mask))
        gaps = self.length(x_BLD, conditioning_BC, self.insertion.remaining(time))
        return Reading(self.final_norm(x_BLD, conditioning_BC), gaps)

    def forward(self, input_ids: Tensor, time: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Token logits (B, L, V) of each column, and log of the expected number of tokens missing left of it, (B, L)."""
        reading = self.read(input_ids, time, attention_mask)
        return self.head(reading.hidden), reading.gaps.log_mean


def log_softplus(x: Tensor) -> Tensor:
    """log log(1 + e^x) without underflow: x itself where e^x is negligible beside 1."""
    small = x < -15
    return torch.where(small, x, F.softplus(x.masked_fill(small, 0.0)).log())
