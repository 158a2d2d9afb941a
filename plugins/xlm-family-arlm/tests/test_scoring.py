"""Log-likelihoods of continuations, against the network asked row by row."""

from __future__ import annotations

import pytest
import torch
from xlm_family_arlm.collator import collator
from xlm_family_arlm.config import CollatorConfig, LossConfig
from xlm_family_arlm.loss import ArlmLoss

from xlm_core.errors import ConfigError
from xlm_core.protocols import LikelihoodScorer

BOS = 4
ROWS = [([7, 8], [9, 10, 11]), ([], [12]), ([7, 7, 7, 7], [8]), ([9], [9, 9])]


def batch_of(tokenizer, rows, **options):
    examples = [{"draw": n, "prompt_ids": given, "input_ids": scored} for n, (given, scored) in enumerate(rows)]
    return collator(CollatorConfig(length=6, **options), tokenizer, "lm", "evaluate")(examples)


@pytest.mark.parametrize("pad_to_longest", [True, False])
def test_only_the_continuation_is_scored_and_no_end_is_put_behind_it(pad_to_longest, tokenizer, network):
    loss = ArlmLoss(LossConfig(), network)
    assert isinstance(loss, LikelihoodScorer)
    scores = loss.log_likelihood(batch_of(tokenizer, ROWS, pad_to_longest=pad_to_longest), seed=0)
    for n, (given, scored) in enumerate(ROWS):
        logits = network(torch.tensor([[BOS, *given, *scored[:-1]]]))[0, len(given) :]
        assert scores.log_likelihood[n].item() == pytest.approx(logits.log_softmax(-1)[range(len(scored)), scored].sum().item())
        assert bool(scores.greedy[n]) == (logits.argmax(-1).tolist() == scored)


def test_what_greedy_decoding_writes_is_greedy_until_one_token_is_another(tokenizer, network):
    ids = [BOS, 8]
    for _ in range(3):
        ids.append(int(network(torch.tensor([ids]))[0, -1].argmax()))
    best = ids[2:]
    others = [[*best[:n], 7 + (best[n] - 6) % 6, *best[n + 1 :]] for n in range(3)]
    batch = batch_of(tokenizer, [([8], best), *(([8], other) for other in others)])
    assert ArlmLoss(LossConfig(), network).log_likelihood(batch, seed=0).greedy.tolist() == [True, False, False, False]


def test_it_is_the_loss_of_the_same_row_but_for_the_end(tokenizer, network):
    loss = ArlmLoss(LossConfig(), network)
    example = {"draw": 0, "input_ids": [7, 9, 8]}
    whole = loss(collator(CollatorConfig(length=6), tokenizer, "lm", "evaluate")([example]), seed=0).terms["nll"].total
    end = -network(torch.tensor([[BOS, 7, 9, 8]]))[0, -1].log_softmax(-1)[3]
    open_ended = loss.log_likelihood(batch_of(tokenizer, [([], [7, 9, 8])]), seed=0).log_likelihood
    assert -open_ended.item() == pytest.approx((whole - end).item())


def test_what_does_not_fit_is_refused(tokenizer):
    with pytest.raises(ConfigError, match="does not fit"):
        batch_of(tokenizer, [([7] * 4, [8] * 3)], pad_to_longest=False)
