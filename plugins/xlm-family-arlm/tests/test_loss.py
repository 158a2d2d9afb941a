"""The loss against brute force: every token weighs the same, and nothing but real, counted tokens matters."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F
from xlm_family_arlm.config import LossConfig
from xlm_family_arlm.loss import ArlmLoss

from xlm_core.losses.vocabulary import linear_cross_entropy

PAIRS = [([7, 8, 9], [10, 11]), ([7], [8, 8, 12, 9]), ([], [9]), ([12, 12], [])]


def _brute_force(network, rows, first_target):
    """Sums of -log p and numbers of tokens, one row and one token at a time."""
    totals, counts = [], []
    for row, first in zip(rows, first_target, strict=True):
        log_probs = network(torch.tensor([row[:-1]]))[0].log_softmax(-1)
        terms = [-log_probs[place - 1, row[place]] for place in range(first, len(row))]
        totals.append(sum(terms))
        counts.append(float(len(terms)))
    return torch.stack(totals), torch.tensor(counts)


def test_it_is_the_mean_over_tokens_of_all_rows(network, seq2seq, specials):
    out = ArlmLoss(LossConfig(), network)(seq2seq(PAIRS), seed=0)
    rows = [[*prompt, specials.bos, *answer, specials.eos] for prompt, answer in PAIRS]
    totals, counts = _brute_force(network, rows, [len(prompt) + 1 for prompt, _ in PAIRS])
    torch.testing.assert_close(out.loss, totals.sum() / counts.sum())
    for name in ("loss", "nll"):
        torch.testing.assert_close(out.terms[name].total, totals.detach())
        torch.testing.assert_close(out.terms[name].count, counts)
        assert not out.terms[name].total.requires_grad
    assert out.weight == counts.sum() == 3 + 5 + 2 + 1


def test_prompt_tokens_count_when_asked_for(network, seq2seq, specials):
    out = ArlmLoss(LossConfig(), network)(seq2seq(PAIRS, loss_on_prompt=True), seed=0)
    rows = [[*prompt, specials.bos, *answer, specials.eos] for prompt, answer in PAIRS]
    totals, counts = _brute_force(network, rows, [1] * len(rows))
    for n, (prompt, _) in enumerate(PAIRS):
        if prompt:  # its BOS is not a target
            log_probs = network(torch.tensor([prompt]))[0, -1].log_softmax(-1)
            totals[n] += log_probs[specials.bos]
            counts[n] -= 1
    torch.testing.assert_close(out.terms["nll"].total, totals.detach())
    torch.testing.assert_close(out.terms["nll"].count, counts)


def test_padding_changes_neither_the_loss_nor_its_gradient(network, seq2seq):
    loss = ArlmLoss(LossConfig(), network)
    narrow = loss(seq2seq(PAIRS), seed=0)
    narrow.loss.backward()
    gradient = network.blocks[0].attention.qkv.weight.grad.clone()
    network.zero_grad()
    wide = loss(seq2seq(PAIRS, length=30, prompt_length=20, pad_to_longest=False), seed=0)
    wide.loss.backward()
    torch.testing.assert_close(wide.loss, narrow.loss)
    torch.testing.assert_close(wide.terms["nll"].total, narrow.terms["nll"].total)
    torch.testing.assert_close(network.blocks[0].attention.qkv.weight.grad, gradient)
    assert wide.weight == narrow.weight


def test_micro_batches_weighted_by_their_tokens_average_to_the_whole_batch(network, seq2seq):
    loss = ArlmLoss(LossConfig(), network)
    whole = loss(seq2seq(PAIRS), seed=0).loss
    parts = [loss(seq2seq(PAIRS[a:b]), seed=0) for a, b in ((0, 1), (1, 4))]
    weighted = sum(part.loss * part.weight for part in parts) / sum(part.weight for part in parts)
    torch.testing.assert_close(weighted, whole)
    plain = sum(part.loss for part in parts) / 2
    assert (plain - whole).abs() > 1e-3


def test_packed_documents_have_the_loss_that_they_have_alone(network, packed, lm):
    documents = [[7, 8, 9, 10], [], [11, 11], [12]]
    loss = ArlmLoss(LossConfig(), network)
    together, apart = loss(packed([documents[:3], documents[3:]]), seed=0), loss(lm(documents), seed=0)
    torch.testing.assert_close(together.loss, apart.loss)
    assert together.weight == apart.weight == 5 + 1 + 3 + 2


def test_the_head_sees_only_predicted_columns(network, seq2seq, monkeypatch):
    seen = []
    spy = lambda h, w, t: seen.append(h.shape) or linear_cross_entropy(h, w, t)  # noqa: E731
    monkeypatch.setattr("xlm_family_arlm.loss.linear_cross_entropy", spy)
    ArlmLoss(LossConfig(), network)(seq2seq(PAIRS), seed=0)
    assert seen == [(11, 32)]


def test_a_batch_is_not_edited(network, seq2seq, packed):
    for batch in (seq2seq(PAIRS), packed([[[7, 8], [9]], [[10]]])):
        before = copy.deepcopy(batch)
        ArlmLoss(LossConfig(), network)(batch, seed=0).loss.backward()
        assert batch.keys() == before.keys()
        assert all(torch.equal(batch[name], before[name]) for name in batch)


def test_no_predicted_column_gives_zero_not_nan(network, seq2seq):
    batch = seq2seq(PAIRS)
    batch["target_mask"] = torch.zeros_like(batch["target_mask"])
    batch["predicted"] = batch["predicted"][:0]
    out = ArlmLoss(LossConfig(), network)(batch, seed=0)
    out.loss.backward()
    assert out.loss == out.weight == 0
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_bfloat16_is_within_its_rounding_of_float64(network, lm):
    """And a likelihood is never above 1, however sure the network is."""
    batch = lm([[7, 8, 9, 10, 11, 12] * 10, [9, 9, 9, 7]])
    exact = ArlmLoss(LossConfig(), network)(batch, seed=0).loss
    single = copy.deepcopy(network).float()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = ArlmLoss(LossConfig(), single)(batch, seed=0)
    assert rounded.loss.item() == pytest.approx(exact.item(), rel=0.02)

    sure = _Copies(torch.randn(13, 64, generator=torch.Generator().manual_seed(0)))
    with torch.autocast("cpu", torch.bfloat16):
        targets = batch["target_ids"][batch["target_mask"]]
        truth = F.cross_entropy(sure.hidden(targets).double() @ sure.head.weight.T.double(), targets)
        nll = ArlmLoss(LossConfig(), sure)(batch | {"input_ids": batch["target_ids"]}, seed=0).terms["nll"].total
    assert truth < 1e-4
    assert (nll >= 0).all()
    assert nll.sum() < 0.05


class _Copies(torch.nn.Module):
    """A network that is sure of the token that it reads."""

    def __init__(self, directions):
        super().__init__()
        self.head = torch.nn.Linear(*directions.T.shape, bias=False)
        self.head.weight = torch.nn.Parameter(directions)

    def hidden(self, input_ids, **kwargs):
        return self.head.weight[input_ids] / 2
