"""Decoding from a network whose law is known."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable

import pytest

from xlm_core.errors import ConfigError
from xlm_core.protocols import Tokenizer
from xlm_core.trace import final
from xlm_family_minimal.config import PredictorConfig
from xlm_family_minimal.predictor import MinimalPredictor

LAW = {7: 0.5, 8: 0.2, 3: 0.3}
"""EOS is 3, padding is 0."""


def test_texts_have_the_law_of_the_network(collate: Callable, unigram: Callable, tokenizer: Tokenizer) -> None:
    """Columns are independent, so a text's probability is the product of its tokens' and of the EOS behind it."""
    rows = 4000
    batch = collate("lm", "predict", [{"input_ids": []}] * rows, length=1)
    found = MinimalPredictor(PredictorConfig(), unigram(LAW), tokenizer).predict(batch, seed=3)
    counts = Counter(tuple(token for token in row if token) for row in found.ids.tolist())
    expected = {
        text: math.prod(LAW[token] for token in text) * (LAW[3] if len(text) < 2 else 1)
        for length in range(3)
        for text in itertools.product((7, 8), repeat=length)
    }
    assert set(counts) <= set(expected)
    for text, p in expected.items():
        assert abs(counts[text] - rows * p) < 4.5 * (rows * p * (1 - p)) ** 0.5


@pytest.mark.parametrize("steps, nfe", [(None, 10), (4, 4), (1, 1), (99, 10)])
def test_masks_are_divided_among_the_steps(
    collate: Callable, unigram: Callable, tokenizer: Tokenizer, steps: int | None, nfe: int
) -> None:
    batch = collate("seq2seq", "predict", [{"prompt_ids": [7] * n, "input_ids": []} for n in range(5)], length=9)
    predictor = MinimalPredictor(PredictorConfig(steps=steps), unigram({7: 0.5, 8: 0.5}), tokenizer)
    found = predictor.predict(batch, seed=0, trace=True)
    assert found.nfe.tolist() == [nfe] * 5
    assert found.traces is not None
    for trace, answer in zip(found.traces, found.ids.tolist(), strict=True):
        assert list(final(trace)) == answer
        shares = Counter(event.step for event in trace.events)
        assert len(shares) == nfe
        assert max(shares.values()) - min(shares.values()) <= 1


def test_no_steps_are_refused(unigram: Callable, tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="steps=0"):
        MinimalPredictor(PredictorConfig(steps=0), unigram(LAW), tokenizer)
