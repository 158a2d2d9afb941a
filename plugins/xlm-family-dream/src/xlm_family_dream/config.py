"""The config nodes of the family."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from xlm_core.config import SamplingConfig


@dataclass
class ModelConfig:
    """A Qwen2 network. With `pretrained`, the sizes are those of the checkpoint and the ones given here are not read."""

    pretrained: Optional[str] = None
    """A folder with config.json and safetensors of a Dream or Qwen2 network, or its Hub name. Nothing in it is executed.
    Random weights when not given."""
    revision: Optional[str] = None
    """pretrained: branch, tag or commit on the Hub."""
    dtype: str = "float32"
    """What the weights are kept in: float32 or bfloat16."""
    causal: bool = False
    """Attend to the left only, as the autoregressive network does that Dream begins from."""
    dim: int = 768
    layers: int = 12
    heads: int = 12
    kv_heads: int = 4
    """Heads of keys and values; each serves heads / kv_heads query heads."""
    hidden: int = 2048
    """Width inside the MLP."""
    rope_theta: float = 1e6
    """Base of the rotary frequencies."""
    norm_eps: float = 1e-6
    tie_head: bool = False
    """The vocabulary head is the token embedding."""


@dataclass
class LossConfig:
    weight: str = "bound"
    """`bound`: a row with k of n columns masked counts n / k, the 1 / t of masked diffusion. `tokens`: every predicted token
    weighs the same."""


@dataclass
class PredictorConfig:
    order: str = "entropy"
    """Which masks come first: `random`, or the surest: `top_prob`, `prob_diff` (margin) or `entropy`."""
    order_temperature: float = 0.0
    """Draw positions from softmax(confidence / this) without replacement; 0 takes the surest. Not for `random`."""
    steps: Optional[int] = None
    """Most network evaluations of a row, shared out among its blocks by their masks, at least one for each block. As many as
    masks when not given."""
    schedule: str = "even"
    """`even`: every step of a block reveals equally many, rounded up. `linear`: the official decoder's, where a step from time
    t to s reveals the share 1 - s / t of the masks, rounded down, and the last step what is left; with order `random`, each
    mask with probability 1 - s / t."""
    block_size: Optional[int] = None
    """Finish so many columns before the next so many are begun; all at once when not given."""
    threshold: Optional[float] = None
    """Approximate. Reveal every mask whose token has at least this probability as well."""
    cache: str = "none"
    """Approximate, with block_size. `prefix`: keys and values left of a block are computed once, when it begins. `dual`: those
    right of it as well. `none` computes all columns at every step."""
    close: bool = True
    """Masks right of a decoded EOS become EOS. Without, they go on being decoded as long as a mask is left of it."""
    stop: list[str] = field(default_factory=list)
    """A row ends when one of these is in its text with no mask before; the answer ends in front of it. Not for infill."""
    report_agreement: bool = False
    """With cache or threshold: decode every batch exactly too, and log how much of it is the same."""
    token: SamplingConfig = field(default_factory=lambda: SamplingConfig(temperature=0.0))
    """How a token is chosen at a mask. Confidences are those of this law: after temperature, top_p, then top_k; `top_prob` is
    the probability of the token that was drawn."""


@dataclass
class CollatorConfig:
    length: int = 128
    """Most content tokens. A text has a slot of one more column, and EOS fills what it leaves of it."""
    prompt_length: int = 0
    """seq2seq: most tokens of a prompt."""
    bos: bool = True
    """BOS stands in front of what is predicted: before a text, and between prompt and answer. Released weights were trained
    without it; a column with nothing before it is then predicted from its own state."""
    mask_given: bool = False
    """infill: train with masks anywhere, not only at the holes."""
    packed: bool = False
    """lm: training rows are packed, so that decoding starts from as many columns as they have."""
    pad_to_longest: bool = True
    """Make batches as wide as their longest row instead of as the longest possible row."""
    seed: int = 0
    """Fixes, with a row's draw, which tokens are masked."""
