"""The config nodes of the family."""

from __future__ import annotations

from dataclasses import dataclass, field

from xlm_core.config import SamplingConfig, TransformerConfig


@dataclass
class ModelConfig(TransformerConfig):
    """The network has no options beside its sizes."""


@dataclass
class LossConfig:
    """The loss has no options: which tokens it is about is decided where batches are made."""


@dataclass
class PredictorConfig:
    max_new_tokens: int = 128
    """A row ends after so many tokens, with or without EOS."""
    token: SamplingConfig = field(default_factory=SamplingConfig)
    """How the next token is chosen."""
    use_cache: bool = True
    """Keep the keys and values of earlier columns. Without it every step computes all columns again; the result is the same."""


@dataclass
class CollatorConfig:
    length: int = 128
    """Most content tokens."""
    prompt_length: int = 0
    """seq2seq: most tokens of a prompt."""
    loss_on_prompt: bool = False
    """seq2seq: also train and evaluate on the tokens of the prompt, from its second one on."""
    pad_to_longest: bool = True
    """Make batches as wide as their longest row instead of as the longest possible row."""
