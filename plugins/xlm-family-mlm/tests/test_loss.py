"""The loss against brute force: what weighs how much, and that nothing but predicted tokens matters."""

from __future__ import annotations

import copy

import pytest
import torch
import xlm_family_mlm.loss
from xlm_family_mlm.config import LossConfig
from xlm_family_mlm.loss import MlmLoss

from xlm_core.errors import ConfigError
from xlm_core.losses.vocabulary import linear_cross_entropy

PAIRS = [([7, 8, 9], [10, 11]), ([7], [8, 8, 12, 9]), ([], [9]), ([12, 12], [7, 8, 7]), ([8], [9, 9]), ([10, 7], [])]


@torch.no_grad()
def _brute_force(network, batch):
    """Each row's -log p of its predicted tokens, one row at a time and without padding."""
    rows = []
    for n, real in enumerate(batch["attention_mask"].sum(-1).tolist()):
        log_probs = network(batch["input_ids"][n : n + 1, :real])[0].log_softmax(-1)
        columns = batch["target_mask"][n].nonzero()[:, 0].tolist()
        rows.append([-log_probs[column, batch["target_ids"][n, column]] for column in columns])
    return rows


OPTIONS = [{}, {"fill_in_loss": 0}, {"visible_in_loss": True, "fill_in_loss": 1}, {"fill": False}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("count", [6, 9])
def test_it_is_the_mean_over_tokens_or_over_rows(network, seq2seq, options, count):
    """With as many rows as columns, a weight that is spread along the wrong axis would give no error."""
    pairs = (PAIRS * 2)[:count]
    batch = seq2seq(pairs, draws=[3 * n + 1 for n in range(count)], length=4, **options)
    rows = _brute_force(network, batch)
    some = [row for row in rows if row]
    assert len({len(row) for row in some}) > 1
    by_tokens = sum(map(sum, some)) / sum(map(len, some))
    by_rows = sum(sum(row) / len(row) for row in some) / len(some)
    assert not torch.isclose(by_tokens, by_rows)
    for mean_over, expected, weight in (("tokens", by_tokens, sum(map(len, some))), ("rows", by_rows, len(some))):
        out = MlmLoss(LossConfig(mean_over=mean_over), network)(batch, seed=0)
        torch.testing.assert_close(out.loss, expected)
        assert out.weight == weight
        total, units = out.terms["loss"].total, out.terms["loss"].count
        assert not total.requires_grad
        per_row = [sum(row) / (len(row) if mean_over == "rows" else 1) if row else 0.0 for row in rows]
        torch.testing.assert_close(total, torch.tensor(per_row, dtype=total.dtype))
        assert units.tolist() == [bool(row) if mean_over == "rows" else len(row) for row in rows]


@pytest.mark.parametrize("mean_over", ["tokens", "rows"])
def test_micro_batches_are_averaged_to_the_whole(network, seq2seq, mean_over):
    loss = MlmLoss(LossConfig(mean_over=mean_over), network)
    whole = loss(seq2seq(PAIRS, draws=range(6), length=4), seed=0)
    parts = [loss(seq2seq(PAIRS[n : n + 2], draws=range(n, n + 2), length=4), seed=0) for n in (0, 2, 4)]
    weight = sum(part.weight for part in parts)
    assert weight == whole.weight
    torch.testing.assert_close(sum(part.loss * part.weight for part in parts) / weight, whole.loss)


@pytest.mark.parametrize("mean_over", ["tokens", "rows"])
def test_padding_changes_neither_the_loss_nor_its_gradient(network, seq2seq, mean_over):
    loss = MlmLoss(LossConfig(mean_over=mean_over), network)
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


def test_documents_of_a_packed_row_are_trained_as_if_alone(network, packed, lm):
    rows = [[[7, 8], [9], [10, 11, 12]], [[8, 9, 9], [7]]]
    out = MlmLoss(LossConfig(), network)(packed(rows, draws=[3, 4]), seed=0)
    batch = packed(rows, draws=[3, 4])
    expected = []
    for n, row in enumerate(rows):
        begin, total = 0, 0.0
        for document in row:
            part = slice(begin, begin + len(document) + 1)
            logits = network(batch["input_ids"][n : n + 1, part])[0].log_softmax(-1)
            nll = -logits.gather(1, batch["target_ids"][n, part, None])[:, 0]
            total = total + (nll * batch["target_mask"][n, part]).sum()
            begin = part.stop
        expected.append(total)
    torch.testing.assert_close(out.terms["loss"].total, torch.stack(expected).detach())


def test_columns_that_are_not_predicted_are_not_projected(network, seq2seq, monkeypatch):
    rows = []
    monkeypatch.setattr(
        xlm_family_mlm.loss,
        "linear_cross_entropy",
        lambda hidden, *rest: rows.append(len(hidden)) or linear_cross_entropy(hidden, *rest),
    )
    batch = seq2seq(PAIRS, length=4)
    MlmLoss(LossConfig(), network)(batch, seed=0)
    assert rows == [int((batch["input_ids"] == 2).sum())]


@pytest.mark.parametrize("mean_over", ["tokens", "rows"])
def test_a_batch_without_masks_has_no_loss_and_no_gradient(network, infill, mean_over):
    batch = infill([([7, 8], set()), ([9], set())])
    out = MlmLoss(LossConfig(mean_over=mean_over), network)(batch, seed=0)
    out.loss.backward()
    assert out.loss == 0
    assert out.weight == 0
    assert all(p.grad is None or (p.grad == 0).all() for p in network.parameters())


def test_a_batch_is_not_edited(network, seq2seq):
    batch = seq2seq(PAIRS, length=4)
    before = copy.deepcopy(batch)
    MlmLoss(LossConfig(), network)(batch, seed=0).loss.backward()
    assert batch.keys() == before.keys()
    assert all(torch.equal(batch[name], before[name]) for name in before)


def test_half_precision_gives_nearly_the_same(tokenizer, specials, seq2seq):
    from xlm_family_mlm.config import ModelConfig
    from xlm_family_mlm.model import MlmModel

    torch.manual_seed(0)
    model = MlmModel(ModelConfig(dim=64, layers=2, heads=2, dropout=0.0), len(tokenizer), specials.pad)
    batch = seq2seq(PAIRS, length=4)
    exact = MlmLoss(LossConfig(), copy.deepcopy(model).double())(batch, seed=0).loss
    with torch.autocast("cpu", torch.bfloat16):
        half = MlmLoss(LossConfig(), model)(batch, seed=0).loss
    half.backward()
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(exact.item(), rel=0.02)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_an_unknown_mean_is_refused(network):
    with pytest.raises(ConfigError, match="mean_over='batch'"):
        MlmLoss(LossConfig(mean_over="batch"), network)
