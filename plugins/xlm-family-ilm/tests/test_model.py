"""The network: which column feeds which head, both heads, and padding."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from xlm_family_ilm.model import STOP, OutcomeHead

from xlm_core.errors import ConfigError


def test_class_zero_means_stop():
    assert STOP == 0


@pytest.mark.parametrize("outcome, classes", [("stop", 2), ("length", 10)])
@pytest.mark.parametrize("final_norm", [False, True])
def test_both_heads_with_and_without_the_final_norm(network, tokenizer, outcome, classes, final_norm):
    """Each option reaches the place that it names."""
    model = network(outcome, max_missing=9, final_norm=final_norm)
    ids = torch.tensor([[1, 4, 7, 8]])
    logits, outcomes = model(ids, torch.ones_like(ids, dtype=torch.bool))
    assert logits.shape == (1, 4, len(tokenizer))
    assert outcomes.shape == (1, classes)
    assert isinstance(model.final_norm, torch.nn.LayerNorm) == final_norm
    assert model.outcome_kind == outcome


def test_an_unknown_head_is_refused(network):
    with pytest.raises(ConfigError, match=r"model\.outcome='both' is unknown"):
        network("both")


def test_outcome_head_is_its_formula():
    torch.manual_seed(0)
    head, x = OutcomeHead(8, 3, dropout=0.0).double(), torch.randn(5, 8, dtype=torch.float64)
    widen, narrow = head.mlp[1], head.mlp[3]
    expected = x + F.linear(torch.tanh(F.linear(F.layer_norm(x, (8,)), widen.weight, widen.bias)), narrow.weight, narrow.bias)
    assert torch.allclose(head(x), expected @ head.classes.weight.T, atol=1e-12)
    assert widen.weight.shape == (16, 8)
    assert head.classes.bias is None


def test_the_outcome_is_read_from_cls_and_every_gap_from_its_own_column(network):
    model = network()
    ids = torch.tensor([[1, 4, 7, 8]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    states = model.hidden(ids, mask)
    logits, outcome = model(ids, mask)
    assert torch.allclose(outcome, model.outcome(states[:, 0]))
    assert torch.allclose(logits, states @ model.head.weight.T)


def test_attention_is_bidirectional_and_padding_is_not_seen(network):
    model = network()
    row = torch.tensor([[1, 4, 7, 8]])
    alone, alone_outcome = model(row, torch.ones_like(row, dtype=torch.bool))
    padded = torch.tensor([[1, 4, 7, 8, 0, 0], [1, 4, 9, 9, 9, 9]])
    mask = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    logits, outcome = model(padded, mask)
    assert torch.allclose(logits[0, :4], alone[0], atol=1e-10)
    assert torch.allclose(outcome[0], alone_outcome[0], atol=1e-10)
    junk = padded.clone()
    junk[0, 4:] = 12
    assert torch.allclose(model(junk, mask)[0][0, :4], alone[0], atol=1e-10)
    later = row.clone()
    later[0, 3] = 10
    assert (model(later, torch.ones_like(row, dtype=torch.bool))[0][0, 0] - alone[0, 0]).abs().max() > 1e-3


def test_every_parameter_is_trained(network, loss_of, collate, rows):
    model = network()
    loss_of(model)(collate("lm", draws=[3, 1, 4, 15, 9], **rows["lm"]), seed=0).loss.backward()
    assert all(parameter.grad is not None and (parameter.grad != 0).any() for parameter in model.parameters())
