"""The loss against brute force: what weighs how much, which column predicts which, and that nothing else matters."""

from __future__ import annotations

import copy

import pytest
import torch
import xlm_family_dream.loss
from xlm_family_dream.config import LossConfig, ModelConfig
from xlm_family_dream.loss import DreamLoss
from xlm_family_dream.model import DreamModel

from xlm_core.errors import ConfigError
from xlm_core.losses.vocabulary import linear_cross_entropy

PAIRS = [([7, 8, 9], [10, 11]), ([7], [8, 8, 12, 9]), ([], [9]), ([12, 12], [7, 8, 7]), ([8], [9, 9]), ([10, 7], [])]
WEIGHTS = pytest.mark.parametrize("weight", ["bound", "tokens"])


@torch.no_grad()
def _brute_force(network, batch, own_first=False):
    """Each row's -log p of its masked tokens, one row at a time and without padding."""
    rows = []
    for n, real in enumerate(batch["attention_mask"].sum(-1).tolist()):
        logits = network(batch["input_ids"][n : n + 1, :real])[0]
        shifted = torch.cat([logits[:1], logits[:-1]]).log_softmax(-1)
        columns = batch["target_mask"][n].nonzero()[:, 0].tolist()
        assert own_first or 0 not in columns
        rows.append([-shifted[column, batch["target_ids"][n, column]].item() for column in columns])
    return rows


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("count", [6, 9])
def test_it_is_the_bound_or_the_mean_over_tokens(network, seq2seq, bos, count):
    """With as many rows as columns, a weight that is spread along the wrong axis would give no error."""
    pairs = (PAIRS * 2)[:count]
    batch = seq2seq(pairs, draws=[3 * n + 1 for n in range(count)], length=4, bos=bos)
    rows = _brute_force(network, batch, own_first=not bos)
    assert len({len(row) for row in rows}) > 2
    tokens = [len(answer) + 1 for _, answer in pairs]
    bound = [5 / len(row) * sum(row) for row in rows]
    by_bound, by_tokens = sum(bound) / sum(tokens), sum(map(sum, rows)) / sum(map(len, rows))
    assert abs(by_bound - by_tokens) > 1e-3
    for weight, expected, units in (("bound", by_bound, tokens), ("tokens", by_tokens, [len(row) for row in rows])):
        out = DreamLoss(LossConfig(weight=weight), network)(batch, seed=0)
        assert out.loss.item() == pytest.approx(expected)
        assert out.weight == sum(units)
        assert out.terms["nll"].total.tolist() == pytest.approx(bound)
        assert out.terms["nll"].count.tolist() == tokens
        assert out.terms["loss"].count.tolist() == units
        assert not any(term.total.requires_grad for term in out.terms.values())
        assert (out.terms["loss"].total.sum() / out.weight).item() == pytest.approx(expected)


@WEIGHTS
def test_micro_batches_are_averaged_to_the_whole(network, seq2seq, weight):
    loss = DreamLoss(LossConfig(weight=weight), network)
    whole = loss(seq2seq(PAIRS, draws=range(6), length=4), seed=0)
    parts = [loss(seq2seq(PAIRS[n : n + 2], draws=range(n, n + 2), length=4), seed=0) for n in (0, 2, 4)]
    total = sum(part.weight for part in parts)
    assert total == whole.weight
    torch.testing.assert_close(sum(part.loss * part.weight for part in parts) / total, whole.loss)


@WEIGHTS
def test_padding_changes_neither_the_loss_nor_its_gradient(network, seq2seq, weight):
    loss = DreamLoss(LossConfig(weight=weight), network)
    narrow = loss(seq2seq(PAIRS, length=4), seed=0)
    narrow.loss.backward()
    gradient = network.blocks[0].attention.qkv.weight.grad.clone()
    network.zero_grad()
    wide = loss(seq2seq(PAIRS, length=4, prompt_length=20, pad_to_longest=False), seed=0)
    wide.loss.backward()
    torch.testing.assert_close(wide.loss, narrow.loss)
    torch.testing.assert_close(wide.terms["loss"].total, narrow.terms["loss"].total)
    torch.testing.assert_close(network.blocks[0].attention.qkv.weight.grad, gradient)
    assert (network.embedding.weight.grad[0] == 0).all()


@pytest.mark.parametrize("bos", [True, False])
def test_documents_of_a_packed_row_are_trained_as_if_alone(network, packed, specials, bos):
    """The first token of a document is never predicted from the document before it."""
    rows = [[[7, 8], [9], [10, 11, 12]], [[8, 9, 9], [7]]]
    batch = packed(rows, draws=[3, 4], bos=bos)
    out = DreamLoss(LossConfig(weight="tokens"), network)(batch, seed=0)
    for n, row in enumerate(rows):
        begin, total = 0, 0.0
        for document in row:
            part = slice(begin, begin + bos + len(document) + 1)
            logits = network(batch["input_ids"][n : n + 1, part])[0]
            shifted = torch.cat([logits[:1], logits[:-1]]).log_softmax(-1)
            nll = -shifted.gather(1, batch["target_ids"][n, part, None])[:, 0]
            total = total + (nll * batch["target_mask"][n, part]).sum()
            begin = part.stop
        torch.testing.assert_close(out.terms["loss"].total[n], total.detach())


def test_columns_that_are_not_predicted_are_not_projected(network, seq2seq, monkeypatch):
    rows = []
    monkeypatch.setattr(
        xlm_family_dream.loss,
        "linear_cross_entropy",
        lambda hidden, *rest: rows.append(len(hidden)) or linear_cross_entropy(hidden, *rest),
    )
    batch = seq2seq(PAIRS, length=4)
    DreamLoss(LossConfig(), network)(batch, seed=0)
    assert rows == [int((batch["input_ids"] == 2).sum())]


@WEIGHTS
def test_a_batch_without_masks_has_no_loss_and_no_gradient(network, infill, weight):
    out = DreamLoss(LossConfig(weight=weight), network)(infill([([7, 8], set()), ([9], set())]), seed=0)
    out.loss.backward()
    assert out.loss == 0
    assert out.weight == 0
    assert all(p.grad is None or (p.grad == 0).all() for p in network.parameters())


def test_a_batch_is_not_edited(network, seq2seq):
    batch = seq2seq(PAIRS, length=4)
    before = copy.deepcopy(batch)
    DreamLoss(LossConfig(), network)(batch, seed=0).loss.backward()
    assert batch.keys() == before.keys()
    assert all(torch.equal(batch[name], before[name]) for name in before)


def test_half_precision_gives_nearly_the_same(tokenizer, seq2seq):
    torch.manual_seed(0)
    model = DreamModel(ModelConfig(dim=64, layers=2, heads=4, kv_heads=2, hidden=96), len(tokenizer))
    batch = seq2seq(PAIRS, length=4)
    exact = DreamLoss(LossConfig(), copy.deepcopy(model).double())(batch, seed=0).loss
    with torch.autocast("cpu", torch.bfloat16):
        half = DreamLoss(LossConfig(), model)(batch, seed=0).loss
    half.backward()
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(exact.item(), rel=0.02)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_an_unknown_weight_is_refused(network):
    with pytest.raises(ConfigError, match="weight='batch'"):
        DreamLoss(LossConfig(weight="batch"), network)
