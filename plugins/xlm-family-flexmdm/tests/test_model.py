"""The network: padding, time, and what the length head says."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from xlm_family_flexmdm.config import ModelConfig
from xlm_family_flexmdm.model import FlexmdmModel, LengthHead, log_softplus

from xlm_core.errors import ConfigError
from xlm_core.nn.attention import AttentionMask

EOS, BOS = 3, 4
ROWS = [[BOS, 7, 2, EOS], [BOS, 8, 9, 2, 10, 11, EOS], [BOS, EOS]]


def _padded(rows, width, pad_id=0):
    ids = torch.full((len(rows), width), pad_id)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
    return ids, torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]


@pytest.mark.parametrize("head", ["expectation", "distribution"])
def test_padding_changes_nothing(build_network, head):
    network = build_network(length_head=head)
    times = torch.tensor([0.2, 0.7, 0.9], dtype=torch.float64)
    ids, mask = _padded(ROWS, 12, pad_id=5)
    logits, log_mean = network(ids, times, mask)
    assert logits.shape == (3, 12, 13)
    for row, tokens in enumerate(ROWS):
        alone = network(torch.tensor([tokens]), times[row : row + 1], torch.ones(1, len(tokens), dtype=torch.bool))
        torch.testing.assert_close(logits[row : row + 1, : len(tokens)], alone[0])
        torch.testing.assert_close(log_mean[row : row + 1, : len(tokens)], alone[1])


def test_the_time_matters(network):
    ids, mask = _padded(ROWS, 8)
    early, late = (network(ids, torch.full((3,), t, dtype=torch.float64), mask) for t in (0.1, 0.6))
    assert (early[0] - late[0])[mask].abs().min() > 0
    assert (early[1] - late[1])[mask].abs().max() > 0.1


def test_blocks_add_to_their_input_and_differ_from_each_other(tokenizer, specials):
    """G1, G2: at first a block adds nothing, so what goes in comes out; and no layer is a copy of another."""
    model = FlexmdmModel(ModelConfig(dim=16, layers=3, heads=2), len(tokenizer), specials).eval()
    ids, mask = _padded(ROWS, 8)
    states = model.trunk(ids, model.conditioning(torch.zeros(3)), mask=AttentionMask(valid=mask))
    assert torch.equal(states, model.embedding(ids))
    first, *others = ([p for p in block.parameters() if p.ndim == 2] for block in model.blocks)
    assert not any(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


def _head(kind, **changes):
    torch.manual_seed(0)
    head = LengthHead(ModelConfig(dim=8, conditioning_dim=4, length_head=kind, max_gap=3, **changes)).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter))
    x, conditioning = torch.randn(2, 5, 8, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    return lambda remaining: head(x, conditioning, torch.tensor(remaining, dtype=torch.float64))


def test_the_odds_that_something_is_missing_have_the_prior_of_the_schedule():
    head = _head("distribution")
    one, other = head([1.0, 0.5]).log_law.exp(), head([0.25, 0.05]).log_law.exp()
    odds = [(1 - law[..., 0]) / law[..., 0] for law in (one, other)]
    torch.testing.assert_close(odds[1] / odds[0], torch.tensor([[0.25], [0.1]], dtype=torch.float64).expand(2, 5))
    torch.testing.assert_close(*(law[..., 1:] / law[..., 1:].sum(-1, keepdim=True) for law in (one, other)))


def test_expectations_vanish_with_what_is_left():
    """The rate a' / (1 - a) * mean stays finite, so the bound does; without the prior the mean is what it is."""
    head = _head("expectation")
    means = torch.stack([head([r, r]).log_mean.exp() for r in (1e-12, 1e-15)])
    torch.testing.assert_close(means[0] / 1e-12, means[1] / 1e-15, rtol=1e-4, atol=0)
    plain = _head("expectation", prior_odds=False)
    assert torch.equal(plain([1.0, 1.0]).log_mean, plain([1e-9, 0.3]).log_mean)


@pytest.mark.parametrize("kind", ["expectation", "distribution"])
def test_nothing_is_missing_when_the_time_is_over(kind):
    """The last evaluation is at time 1, where the logarithm of the prior is -inf."""
    gaps = _head(kind)([0.0, 0.0])
    assert (gaps.log_mean == -torch.inf).all()
    if kind == "distribution":
        assert (gaps.drawn(torch.full((2, 5), 0.999, dtype=torch.float64)) == 0).all()


@pytest.mark.parametrize("hidden, layers", [(None, 2), (0, 1), (5, 2)])
def test_heads_may_be_linear(hidden, layers):
    cfg = ModelConfig(dim=8, conditioning_dim=4, length_head="distribution", length_hidden=hidden, max_gap=3)
    linear = [m for m in (*LengthHead(cfg).inner, LengthHead(cfg).outer) if isinstance(m, torch.nn.Linear)]
    assert len(linear) == layers
    assert linear[-1].out_features == 4
    assert linear[0].out_features == {None: 8, 0: 4, 5: 5}[hidden]


def test_training_starts_from_small_gaps(tokenizer, specials):
    """Not from 0.69 of the longest text in every gap."""
    ids, mask = _padded(ROWS, 8)
    times = torch.zeros(3, dtype=torch.float64)
    for max_gap in (1, 8, 1024):
        model = FlexmdmModel(ModelConfig(dim=16, layers=1, heads=2, max_gap=max_gap), len(tokenizer), specials).eval()
        logits, log_mean = model(ids, times, mask)
        torch.testing.assert_close(log_mean.exp(), torch.full((3, 8), 0.5), rtol=1e-4, atol=0)
        assert not logits.any()


@pytest.mark.parametrize("head", ["expectation", "distribution"])
def test_gaps_are_float32_in_mixed_precision(tokenizer, specials, head):
    """F6: without a request that the backend ignores, hence without a warning."""
    model = FlexmdmModel(ModelConfig(dim=16, layers=1, heads=2, length_head=head, max_gap=4), len(tokenizer), specials).eval()
    ids, mask = _padded(ROWS, 8)
    with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16):
        warnings.simplefilter("error")
        logits, log_mean = model(ids, torch.full((3,), 0.5, dtype=torch.float64), mask)
    assert (logits.dtype, log_mean.dtype) == (torch.bfloat16, torch.float32)


def test_log_softplus_has_no_limits():
    x = torch.tensor([-1000.0, -100.0, -15.1, -14.9, 0.0, 3.0, 200.0], requires_grad=True)
    y = log_softplus(x)
    wide = x.detach().double()
    exact = torch.where(wide < -30, wide, torch.log1p(wide.clamp(min=-30).exp()).log())
    torch.testing.assert_close(y.double(), exact)
    y.sum().backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad[0] == 1
    assert float(x.grad[4]) == pytest.approx(0.5 / math.log(2))


@pytest.mark.parametrize("changes, word", [({"length_head": "poisson"}, "poisson"), ({"max_gap": 0}, "max_gap")])
def test_wrong_configs_are_refused(tokenizer, specials, changes, word):
    with pytest.raises(ConfigError, match=word):
        FlexmdmModel(ModelConfig(dim=16, layers=1, heads=2, **changes), len(tokenizer), specials)
