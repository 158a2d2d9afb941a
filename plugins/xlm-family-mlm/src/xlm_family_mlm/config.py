"""The config nodes of the family."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from xlm_core.config import SamplingConfig, TransformerConfig


@dataclass
class ModelConfig(TransformerConfig):
    """The network has no options beside its sizes."""


@dataclass
class LossConfig:
    mean_over: str = "tokens"
    """`tokens`: every predicted token weighs the same, so a row counts by how many of its tokens are masked. `rows`: every row
    with a masked token weighs the same."""


@dataclass
class PredictorConfig:
    order: str = "random"
    """Which masks come first: `random`, or those that the network is surest of: `top_prob`, `prob_diff` or `entropy`."""
    steps: Optional[int] = None
    """Most network evaluations of a row. The masks are divided evenly among them; one at a time when not given."""
    threshold: Optional[float] = None
    """Go on filling within a step while the errors of what it has filled add up to less than this (an error is 1 - confidence,
    or the entropy); no more than the even share when not given. Not for `random`."""
    order_temperature: float = 0.0
    """Add Gumbel noise to confidences divided by this; 0 for none. Not for `random`."""
    token: SamplingConfig = field(default_factory=SamplingConfig)
    """How a token is chosen at a mask."""


@dataclass
class CollatorConfig:
    length: int = 128
    """Most content tokens."""
    prompt_length: int = 0
    """seq2seq: most tokens of a prompt."""
    fill: bool = True
    """lm and seq2seq: every text is given room for the longest one, and EOS fills what it leaves of it; so where the text ends
    is predicted. Without, a canvas is as long as its text and EOS closes it: decoding is told the length."""
    fill_in_loss: Optional[int] = None
    """How many of the EOS behind a text's first one count in the loss; all of them when not given."""
    visible_in_loss: bool = False
    """Predict what could have been masked and was not as well."""
    mask_given: bool = False
    """infill: train with masks anywhere, not only at the holes."""
    packed: bool = False
    """lm: training rows are packed, so that decoding starts from as many columns as they have."""
    lengths: Optional[dict[int, float]] = None
    """lm and seq2seq, without `fill` or packed: decode texts of these lengths, drawn with these weights. When not given, packed
    rows end where EOS is found, and other texts get `length` tokens."""
    pad_to_longest: bool = True
    """Make batches as wide as their longest row instead of as the longest possible row."""
    seed: int = 0
    """Fixes, with a row's draw, which tokens are masked and what length is decoded."""
