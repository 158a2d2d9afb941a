"""The config nodes of the family."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from xlm_core.config import DiTConfig, SamplingConfig


@dataclass
class ModelConfig(DiTConfig):
    time_conditioning: bool = False
    """Whether the network reads the noise level. The optimal prediction does not depend on it."""


@dataclass
class LossConfig:
    schedule: str = "log_linear"
    """log_linear, linear or cosine: how training times are spread over noise levels. The bound does not depend on it."""
    train_estimator: str = "time"
    """time: one diffusion time a row, each token masked by chance; count: how many tokens are masked is drawn instead. Both
    have the bound as their mean; the second has less variance and no cut-off."""
    eval_estimator: str = "count"
    eval_samples: int = 1
    """Noised copies of a row that an evaluation averages, with strata over the noise levels."""
    min_noise: float = 1e-3
    """time: the least probability of a mask that is drawn, as published. Leaving out smaller ones keeps the variance finite."""
    count_padding: bool = False
    """Count the padding that is modelled among the tokens that the loss is divided by."""


@dataclass
class RemaskConfig:
    """Remasking of arXiv 2503.00307, section 4. Used by the sampler `remask`."""

    strategy: str = "cap"
    """The probability that a visible token is masked again in a step. cap: at most `eta`; rescale: `eta` times the largest that
    leaves the share of masked tokens as the schedule has it."""
    eta: float = 0.02
    confidence: bool = False
    """Share the probability out among the visible tokens of a row, unlikely ones getting more of it."""
    begin: float = 1.0
    """Going from time 1 to 0, nothing is masked again before this time,"""
    end: float = 0.0
    """and after this one."""
    hold: Optional[float] = None
    """Between `begin` and `end`, keep the share of visible tokens at this value, spending the other times on getting there and
    on finishing: the loop of the paper."""


@dataclass
class PredictorConfig:
    sampler: str = "first_hitting"
    """first_hitting: one token at a time, at the times of the continuous process; ancestral: `steps` steps of equal time;
    remask: ancestral, and visible tokens may be masked again."""
    order: str = "random"
    """first_hitting: which column is next. random, as in the process; or the one of which the network is surest by top_prob,
    prob_diff or entropy, which samples another law and is often right more often."""
    steps: int = 128
    """ancestral and remask."""
    schedule: str = "log_linear"
    """ancestral and remask: log_linear, linear or cosine: how many tokens are revealed when."""
    token: SamplingConfig = field(default_factory=SamplingConfig)
    """How a token is chosen once it is its turn. Whose turn it is does not depend on it."""
    last_step: str = "sample"
    """ancestral and remask: sample, or greedy, which takes the most probable token of all that the last step reveals (published
    code does; it sharpens the law of few steps)."""
    max_new_tokens: Optional[int] = None
    """Go on behind the canvas until the row ends or has so many tokens. None: no more than the canvas holds."""
    stride: Optional[int] = None
    """Tokens that each further window adds; its others are the last ones before. Half of the window when not given."""
    remask: RemaskConfig = field(default_factory=RemaskConfig)


@dataclass
class CollatorConfig:
    length: int = 128
    """Most content tokens of the text or answer. EOS comes on top."""
    prompt_length: int = 0
    padding: str = "model"
    """model: what follows EOS, up to `length`, is noised and predicted, so that decoding chooses the length;
    ignore: it is neither, and the likelihood is that of a text given its length."""
    pad_to_longest: bool = True
    """Make batches as wide as their longest row instead of as the longest possible row."""
