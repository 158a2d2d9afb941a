"""The config nodes of the family."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from xlm_core.config import SamplingConfig, TransformerConfig


@dataclass
class ModelConfig(TransformerConfig):
    final_norm: bool = False
    outcome: str = "stop"
    """What the head on the CLS token predicts: `stop` (whether nothing is missing) or `length` (how many tokens are)."""
    max_missing: int = 128
    """length: the largest number of missing tokens that it can name."""


@dataclass
class LossConfig:
    outcome_weight: float = 1.0
    """Weight of the CLS head's loss beside the insertion loss."""
    stop_class_weight: Optional[float] = None
    """stop: weight w of the class "stop", 1 - w of the other; both 1 when not given."""


@dataclass
class PredictorConfig:
    max_new_tokens: int = 128
    gap: SamplingConfig = field(default_factory=SamplingConfig)
    """How the gap is chosen."""
    token: SamplingConfig = field(default_factory=SamplingConfig)
    """How the token is chosen at that gap; or the (gap, token) pair, when `joint`."""
    joint: bool = False
    """Choose the pair at once from all gaps and tokens. Without truncation the two ways draw from the same law."""
    stop_threshold: float = 0.5
    """A row ends when the head gives "nothing is missing" at least this probability."""
    stop_temperature: float = 1.0
    force_first: bool = False
    """Insert at least one token, whatever the head says."""


@dataclass
class CollatorConfig:
    length: int = 128
    """Most content tokens."""
    prompt_length: int = 0
    insert_in_prompt: bool = False
    """Let insertions happen, in training and decoding, between the tokens of a prompt too."""
    pad_to_longest: bool = True
    """Make batches as wide as their longest row instead of as the longest possible row."""
    seed: int = 0
    """Fixes which tokens are dropped at each draw."""
