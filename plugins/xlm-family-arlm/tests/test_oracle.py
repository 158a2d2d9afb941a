"""The loss and the sampler against laws whose every string is enumerated."""

from __future__ import annotations

from collections import Counter
from math import log

import pytest
import torch
from scipy.stats import chisquare
from xlm_family_arlm.config import LossConfig, PredictorConfig
from xlm_family_arlm.loss import ArlmLoss
from xlm_family_arlm.predictor import ArlmPredictor

from xlm_core.config import SamplingConfig

DRAWS = 12_000
PROMPT = [9, 7]


@pytest.mark.parametrize(("words", "longest"), [(3, 3), (2, 4)])
def test_the_loss_is_the_exact_likelihood_of_every_string(law, lm, words, longest):
    truth = law(words, longest)
    strings = list(truth.laws[0])
    out = ArlmLoss(LossConfig(), truth)(lm(strings), seed=0)

    nll = out.terms["nll"]
    expected = torch.tensor([-log(truth.laws[0][string]) for string in strings], dtype=torch.float64)
    lengths = torch.tensor([len(string) + 1.0 for string in strings])
    torch.testing.assert_close(nll.total, expected)
    torch.testing.assert_close(nll.count, lengths)
    torch.testing.assert_close(out.loss, expected.sum() / lengths.sum())
    assert out.weight == lengths.sum()
    assert torch.exp(-nll.total).sum() == pytest.approx(1.0)


def test_the_loss_of_an_answer_is_its_likelihood_given_its_prompt(law, seq2seq):
    truth = law()
    pairs = [((), string) for string in truth.laws[0]] + [(PROMPT, string) for string in truth.laws[1]]
    nll = ArlmLoss(LossConfig(), truth)(seq2seq(pairs), seed=0).terms["nll"]
    expected = [-log(probability) for each in truth.laws for probability in each.values()]
    torch.testing.assert_close(nll.total, torch.tensor(expected, dtype=torch.float64))


def test_a_packed_row_has_the_likelihood_of_its_documents(law, packed):
    truth = law()
    documents = [(7, 8), (), (9, 9, 7), (8,)]
    nll = ArlmLoss(LossConfig(), truth)(packed([documents]), seed=0).terms["nll"]
    assert nll.total.item() == pytest.approx(-sum(log(truth.laws[0][document]) for document in documents))
    assert nll.count.item() == sum(len(document) + 1 for document in documents)


def _truncated(shares, cfg):
    """The law that a choice with this config should have: the published definitions, one outcome at a time."""
    if cfg.temperature == 0:
        best = max(shares, key=shares.get)
        return {token: float(token == best) for token in shares}
    powered = {token: share ** (1 / cfg.temperature) for token, share in shares.items()}
    ranked = sorted(powered.items(), key=lambda item: -item[1])[: cfg.top_k]
    whole = sum(share for _, share in ranked)
    kept, mass = {}, 0.0
    for token, share in ranked:
        if mass >= (cfg.top_p or 1.0):
            break
        kept[token] = share / whole
        mass += share / whole
    return {token: kept.get(token, 0.0) / sum(kept.values()) for token in shares}


def _sampled_law(truth, node, cfg, room, prefix=()):
    """Every string that a decoder with `room` steps can give below a node, and its probability."""
    if not room:
        return {prefix: 1.0}
    strings = {}
    for token, share in _truncated(truth.conditionals[node], cfg).items():
        if token == truth.eos:
            strings[prefix] = strings.get(prefix, 0.0) + share
            continue
        below = _sampled_law(truth, int(truth.child[node, token]), cfg, room - 1, (*prefix, token))
        strings |= {string: share * probability for string, probability in below.items()}
    return strings


def _draws(truth, tokenizer, batch, cfg, room, *, cache=True):
    predictor = ArlmPredictor(PredictorConfig(max_new_tokens=room, token=cfg, use_cache=cache), truth, tokenizer)
    return [tuple(token for token in row if token) for row in predictor.predict(batch, seed=1).ids.tolist()]


def _agrees(rows, expected):
    """Chi-square at 0.1 %, over strings that should be seen at least five times and all others together."""
    seen = Counter(rows)
    assert all(expected.get(string, 0.0) > 0 for string in seen)
    common = [string for string, probability in expected.items() if probability * len(rows) >= 5]
    observed = [seen[string] for string in common]
    means = [expected[string] * len(rows) for string in common]
    if len(rows) - sum(means) > 1e-6 * len(rows):
        observed.append(len(rows) - sum(observed))
        means.append(len(rows) - sum(means))
    return len(means) == 1 or chisquare(observed, means).pvalue > 1e-3


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("room", [3, 2])
def test_samples_follow_the_law(law, tokenizer, lm, room, cache):
    """With `room` 3 this is the data's own law, its lengths through EOS included; with 2, long strings are cut short."""
    truth = law(noise=True)
    batch = lm([[]] * DRAWS, "predict")
    expected = _sampled_law(truth, 2, SamplingConfig(), room)
    if room == 3:
        assert expected == pytest.approx(truth.laws[0])
    rows = _draws(truth, tokenizer, batch, SamplingConfig(), room, cache=cache)
    assert _agrees(rows, expected)
    lengths = {n: sum(p for string, p in expected.items() if len(string) == n) for n in range(room + 1)}
    assert _agrees([len(row) for row in rows], lengths)


@pytest.mark.parametrize(
    "cfg",
    [
        SamplingConfig(temperature=0.5),
        SamplingConfig(temperature=3.0),
        SamplingConfig(top_k=2),
        SamplingConfig(top_p=0.6),
        SamplingConfig(top_p=0.9),
        SamplingConfig(temperature=1.5, top_k=3, top_p=0.7),
        SamplingConfig(top_k=4, top_p=1.0),
        SamplingConfig(temperature=0.0),
    ],
    ids=str,
)
def test_samples_follow_the_truncated_law(law, tokenizer, lm, cfg):
    truth = law(noise=True)
    rows = _draws(truth, tokenizer, lm([[]] * DRAWS, "predict"), cfg, 3)
    assert _agrees(rows, _sampled_law(truth, 2, cfg, 3))


def test_answers_follow_the_law_of_their_prompt(law, tokenizer, seq2seq):
    truth = law(noise=True)
    batch = seq2seq([(PROMPT if row % 2 else (), ()) for row in range(DRAWS)], "predict")
    rows = _draws(truth, tokenizer, batch, SamplingConfig(), 3)
    assert _agrees(rows[::2], truth.laws[0])
    assert _agrees(rows[1::2], truth.laws[1])
    assert not _agrees(rows[::2], truth.laws[1])
