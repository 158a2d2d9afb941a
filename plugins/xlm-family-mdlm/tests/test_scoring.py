"""Bounds of continuations, against every way of masking them written out."""

from __future__ import annotations

import pytest
import torch
from xlm_family_mdlm.config import LossConfig
from xlm_family_mdlm.loss import MdlmLoss

from xlm_core.protocols import LikelihoodScorer

MASK, BOS = 2, 4
GIVEN, SCORED = [7, 8], [9, 10]


def log_prob(network, canvas, column, token):
    masked = sum(i == MASK for i in canvas) / (len(canvas) - 1 - len(GIVEN))
    return network(torch.tensor([canvas]), None, torch.tensor([masked], dtype=torch.float64))[0, column, token].item()


@pytest.fixture(params=[False, True], ids=["time-free", "time-conditioned"])
def loss(request, build_network):
    return MdlmLoss(LossConfig(eval_samples=2), build_network(time_conditioning=request.param))


def test_canvases_go_on_behind_the_text_with_masks_that_nobody_scores(batch_of, loss):
    batch = batch_of("lm", "evaluate", prompt_ids=[GIVEN], input_ids=[SCORED], length=6)
    assert batch["input_ids"].tolist() == [[BOS, 7, 8, 9, 10, MASK, MASK, MASK]]
    assert batch["free"].tolist() == [[False] * 3 + [True] * 2 + [False] * 3]
    given_length = batch_of("lm", "evaluate", prompt_ids=[GIVEN], input_ids=[SCORED], length=6, padding="ignore")
    assert given_length["input_ids"].tolist() == [[BOS, 7, 8, 9, 10, MASK]]
    assert isinstance(loss, LikelihoodScorer)


def test_one_token_is_scored_exactly(batch_of, loss):
    batch = batch_of("lm", "evaluate", prompt_ids=[GIVEN], input_ids=[[9]], length=6)
    found = loss.log_likelihood(batch, seed=1).log_likelihood.item()
    assert found == pytest.approx(log_prob(loss.model, [BOS, 7, 8, *[MASK] * 5], 3, 9))


def test_two_strata_are_one_of_the_two_orders(batch_of, loss):
    """k = 1 and k = 2 come once each: 1/2 (2 log p(one | other) + log p(both masked))."""
    rest = [MASK] * 3
    both = [log_prob(loss.model, [BOS, 7, 8, MASK, MASK, *rest], 3 + i, SCORED[i]) for i in range(2)]
    alone = [log_prob(loss.model, [BOS, 7, 8, MASK, 10, *rest], 3, 9), log_prob(loss.model, [BOS, 7, 8, 9, MASK, *rest], 4, 10)]
    expected = [sum(both) / 2 + one for one in alone]
    rows = 24
    batch = batch_of("lm", "evaluate", prompt_ids=[GIVEN] * rows, input_ids=[SCORED] * rows, length=6)
    found = loss.log_likelihood(batch, seed=1).log_likelihood.tolist()
    hits = {min(range(2), key=lambda n: abs(value - expected[n])) for value in found}
    assert hits == {0, 1}
    assert all(min(abs(value - one) for one in expected) < 1e-6 for value in found)
