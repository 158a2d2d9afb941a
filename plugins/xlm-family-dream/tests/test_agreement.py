"""Approximate decoding: where it is exact after all, and that what is reported of it is so."""

from __future__ import annotations

import logging

import pytest
import torch
from xlm_family_dream.agreement import NOTHING, Agreement, agreement
from xlm_family_dream.config import PredictorConfig
from xlm_family_dream.predictor import DreamPredictor

from xlm_core.protocols import Prediction

PROMPTS = [[7, 8, 9, 12], [7], [], [10, 10], [11, 9, 12, 8, 8]]


@pytest.fixture
def decode(network, tokenizer, seq2seq):
    batch = seq2seq([(prompt, []) for prompt in PROMPTS], "predict", length=9)

    def make(**options):
        predictor = DreamPredictor(PredictorConfig(**options), network, tokenizer)
        return predictor.predict(batch, seed=0), predictor

    return make


@pytest.mark.parametrize("cache", ["prefix", "dual"])
def test_blocks_of_one_step_are_exact_with_any_cache(decode, cache):
    """Every block begins with a whole evaluation, and that is its only one."""
    for options in ({"block_size": 1}, {"block_size": 3, "steps": 4}, {"block_size": 5, "threshold": 1e-9}):
        exact, approximate = decode(**options)[0], decode(**options, cache=cache)[0]
        assert torch.equal(exact.ids, approximate.ids)
        assert torch.equal(exact.nfe, approximate.nfe)


@pytest.mark.parametrize("cache", ["prefix", "dual"])
def test_one_block_without_a_prompt_is_exact_with_any_cache(network, tokenizer, lm, cache):
    batch = lm([[], []], "predict", length=9)
    ids = [
        DreamPredictor(PredictorConfig(block_size=10, cache=kind), network, tokenizer).predict(batch, seed=0).ids
        for kind in ("none", cache)
    ]
    assert torch.equal(*ids)


def test_caches_compute_fewer_columns_and_not_the_same(network, decode, monkeypatch):
    columns, original = [], network.hidden
    monkeypatch.setattr(network, "hidden", lambda ids, **kw: columns.append(ids.numel()) or original(ids, **kw))
    computed, answers = {}, {}
    for cache in ("none", "prefix", "dual"):
        columns.clear()
        answers[cache] = decode(block_size=5, cache=cache, close=False)[0].ids
        computed[cache] = sum(columns)
    assert computed["none"] > computed["prefix"] > computed["dual"]
    assert not torch.equal(answers["none"], answers["dual"])


def test_agreement_is_reported(decode, caplog):
    with caplog.at_level(logging.WARNING):
        prediction, predictor = decode(block_size=5, cache="dual", threshold=0.4, report_agreement=True)
    exact = decode(block_size=5)[0]
    found = predictor.agreement
    assert found == agreement(prediction, exact, 0)
    assert found.equal_tokens < found.tokens
    assert found.evaluations == prediction.nfe.sum() < found.exact_evaluations == exact.nfe.sum()
    (record,) = caplog.records
    assert "cache=dual, threshold=0.4" in record.message
    assert str(found) in record.message


def test_what_agrees_is_counted():
    one = Prediction(torch.tensor([[7, 8, 9], [7, 0, 0], [8, 8, 0]]), torch.tensor([1, 2, 3]))
    other = Prediction(torch.tensor([[7, 9, 9, 7], [7, 0, 0, 0], [8, 8, 0, 0]]), torch.tensor([4, 4, 4]))
    found = agreement(one, other, 0)
    assert found == Agreement(rows=3, equal_rows=2, tokens=7, equal_tokens=5, evaluations=6, exact_evaluations=12)
    assert NOTHING + found == found
    assert (found + found).tokens == 14
    assert "5 of 7 tokens (71.4 %) and 2 of 3 rows" in str(found)
