"""Top-k and nucleus truncation against Hugging Face's processors."""

from __future__ import annotations

import math

import pytest
import torch
from transformers.generation.logits_process import TopKLogitsWarper, TopPLogitsWarper

from xlm_core.sampling.truncation import truncate

V = 40


def logits(rows=1000, *, ties=False):
    torch.manual_seed(0)
    values = torch.randn(rows, V, dtype=torch.float64) * torch.linspace(0.2, 6, rows)[:, None]
    return values.round() if ties else values


def kept(values):
    return values.isfinite()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [1, 2, 5, V - 1, V, V + 7])
def test_top_k_agrees_with_hugging_face(k, ties):
    values = logits(ties=ties)
    assert torch.equal(truncate(values, top_k=k), TopKLogitsWarper(k)(None, values))


@pytest.mark.parametrize("p", [0.01, 0.3, 0.5, 0.9, 0.95, 0.999])
def test_nucleus_agrees_with_hugging_face(p):
    values = logits()
    assert torch.equal(truncate(values, top_p=p), TopPLogitsWarper(p)(None, values))


@pytest.mark.parametrize("p", [0.11, 0.52, 0.91])
def test_nucleus_of_ties_has_the_same_mass(p):
    """Which of several equal outcomes stay is a matter of sorting; how many do is not."""
    values = logits(ties=True)
    ours, theirs = kept(truncate(values, top_p=p)), kept(TopPLogitsWarper(p)(None, values))
    assert torch.equal(ours.sum(-1), theirs.sum(-1))
    law = values.softmax(-1)
    assert torch.allclose((law * ours).sum(-1), (law * theirs).sum(-1))


@pytest.mark.parametrize("k, p", [(3, 0.5), (10, 0.9), (V, 0.9), (5, 1.0)])
def test_top_k_comes_before_the_nucleus(k, p):
    values = logits()
    expected = TopPLogitsWarper(p)(None, TopKLogitsWarper(k)(None, values)) if p < 1 else TopKLogitsWarper(k)(None, values)
    assert torch.equal(truncate(values, k, p), expected)


def test_the_outcome_that_crosses_is_kept():
    law = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    assert kept(truncate(law.log(), top_p=0.7)).tolist() == [True, True, False, False]
    assert kept(truncate(law.log(), top_p=0.81)).tolist() == [True, True, True, False]


@pytest.mark.parametrize("k, p", [(None, None), (V, None), (None, 1.0), (V, 1.0), (10**6, 1.0)])
def test_no_truncation_is_the_identity(k, p):
    values = logits(20)
    assert torch.equal(truncate(values, k, p), values)


def test_something_is_always_kept_and_the_input_is_not_changed():
    values = logits(50)
    before = values.clone()
    for k, p in [(1, None), (None, 1e-9), (2, 1e-9), (None, 0.0)]:
        found = truncate(values, k, p)
        assert torch.equal(kept(found).sum(-1), torch.ones(50, dtype=torch.int64))
        assert torch.equal(found.argmax(-1), values.argmax(-1))
    assert torch.equal(values, before)


@pytest.mark.parametrize("k, p", [(3, None), (None, 0.9), (3, 0.9)])
def test_closed_outcomes_stay_closed(k, p):
    values = logits(50)
    values[:, 5:] = -math.inf
    assert not kept(truncate(values, k, p))[:, 5:].any()
    values[:, 1:] = -math.inf
    assert torch.equal(truncate(values, k, p), values)
