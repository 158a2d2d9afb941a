"""What the tests share: a tokenizer, canvases, and a network whose law is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from xlm_core.canvas import Specials
from xlm_core.config import TokenizerConfig
from xlm_core.data.tokenizers import build
from xlm_core.protocols import Tokenizer
from xlm_family_minimal.collator import MinimalBatch, MinimalCollator
from xlm_family_minimal.config import CollatorConfig


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Seven special tokens at 0..6, the words a..d at 7..10."""
    return build(TokenizerConfig(kind="words", words=list("abcd")))


@pytest.fixture
def collate(tokenizer: Tokenizer) -> Callable[..., MinimalBatch]:
    def collate(layout: Any, stage: Any, examples: list[Any], length: int = 3) -> MinimalBatch:
        numbered = [{"draw": n, **example} for n, example in enumerate(examples)]
        collator = MinimalCollator(CollatorConfig(length=length), Specials.of(tokenizer), layout, stage)
        return collator(numbered)  # type: ignore[arg-type]

    return collate


class Unigram(nn.Module):
    """Whatever it reads, every column has this law of its token.

    Args:
        law: probability of each id.
    """

    def __init__(self, law: dict[int, float], vocabulary: int) -> None:
        super().__init__()
        self.head = nn.Linear(1, vocabulary, bias=False)
        logits = [math.log(law[token]) if token in law else -1e4 for token in range(vocabulary)]
        self.head.weight = nn.Parameter(torch.tensor(logits)[:, None])

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return torch.ones(*input_ids.shape, 1)


@pytest.fixture
def unigram(tokenizer: Tokenizer) -> Callable[[dict[int, float]], Unigram]:
    return lambda law: Unigram(law, len(tokenizer))
