"""The config nodes of the family."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from xlm_core.config import DiTConfig, SamplingConfig


@dataclass
class ScheduleConfig:
    """When tokens appear: a(t), the probability that it has happened by time t."""

    name: str = "linear"
    """linear, sin, cosine, polynomial or geometric."""
    power: float = 2.0
    """polynomial: a(t) = t ** power."""
    first: float = 20.0
    """geometric: -log a(0) before a is scaled to go from 0 to 1,"""
    last: float = 1e-3
    """and -log a(1)."""


@dataclass
class ModelConfig(DiTConfig):
    activation: str = "relu"
    insertion: ScheduleConfig = field(default_factory=ScheduleConfig)
    """When masks are inserted. The schedules are part of the model: loss and decoder must mean the same times."""
    unmasking: ScheduleConfig = field(default_factory=ScheduleConfig)
    """When masks become tokens. A token's time has this law, given that it is after its insertion."""
    length_head: str = "expectation"
    """What is predicted for each gap: the `expectation` of its missing tokens, or the `distribution` of their number."""
    length_hidden: Optional[int] = None
    """Width inside the length head; `dim` when not given, 0 for a linear head."""
    max_gap: int = 128
    """distribution: the largest number that it can name. expectation: the unit that it is predicted in."""
    prior_odds: bool = True
    """Multiply the odds that anything is missing in a gap by what the schedule says of one token, 1 - a(t). Rates then stay
    finite at the end of time, and so does the bound. Networks that were trained without need false."""


@dataclass
class LossConfig:
    time_power: float = 2.0
    """k of the training times: a(t) = 1 - (1 - v)^k with v uniform, for either schedule. The mean is the same for all; 1 is the
    published law of linear schedules, with weights of infinite variance; above 1 the variance is finite."""
    scale: str = "token"
    """What the sum of a batch is divided by: the tokens that are modelled (`token`), or all B * L columns (`canvas`), as
    published; take collator.pad_to_longest=false with the latter, or it depends on the padding."""
    eval_samples: int = 1
    """Times a row that an evaluation averages over, in strata."""


@dataclass
class PredictorConfig:
    steps: int = 128
    """Steps of equal time. One evaluation more fills what the last of them inserts."""
    max_new_tokens: int = 128
    """Most tokens that are inserted into a row."""
    order: str = "random"
    """Which masks are revealed: random, position (from the left), or the surest by top_prob, prob_diff or entropy. How many are
    does not depend on it."""
    token: SamplingConfig = field(default_factory=SamplingConfig)
    """How a token is chosen at a mask that is revealed."""
    gap: str = "rounded"
    """How many tokens are believed to be missing in each gap. rounded: expectations rounded so that each has its mean and the
    row's total is rounded up or down by chance; nearest: without chance, the total to the nearest number; drawn: each from its
    own law (length_head: distribution); poisson: each a Poisson number, as published."""


@dataclass
class CollatorConfig:
    length: int = 128
    """Most content tokens of the text or answer."""
    prompt_length: int = 0
    pad_to_longest: bool = True
    """Make batches as wide as their longest row instead of as the longest possible row."""
