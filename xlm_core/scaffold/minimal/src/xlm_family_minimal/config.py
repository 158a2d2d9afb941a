"""The config nodes of the family. Each field is a key of its YAML."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from xlm_core.config import SamplingConfig, TransformerConfig


@dataclass
class ModelConfig(TransformerConfig):
    """The network has no options beside its sizes."""


@dataclass
class LossConfig:
    """The loss has no options."""


@dataclass
class PredictorConfig:
    steps: Optional[int] = None
    """Most network evaluations of a row. Its masks are divided evenly among them; one at a time when not given."""
    token: SamplingConfig = field(default_factory=SamplingConfig)
    """How the token at a mask is chosen."""


@dataclass
class CollatorConfig:
    length: int = 128
    """Most content tokens of a text."""
    seed: int = 0
    """Fixes, with a row's draw, which of its tokens are masked."""
