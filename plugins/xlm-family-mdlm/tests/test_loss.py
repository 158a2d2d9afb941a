"""The loss against the network's own log-probabilities, and what it must not depend on."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from scipy.stats import chisquare, kstest
from xlm_family_mdlm.config import LossConfig
from xlm_family_mdlm.loss import MdlmLoss, Noise

from xlm_core.errors import ConfigError
from xlm_core.losses.vocabulary import linear_cross_entropy

M, E = 2, 3
PAIRS = {"prompt_ids": [[7, 8, 9], [7], [], [12, 12]], "input_ids": [[10, 11], [8, 8, 12, 9], [9], []]}
TEXTS = {"input_ids": [[7, 8, 9, 10], [11, 11], [], [12, 7, 8, 9, 10, 11]]}
HOLES = {"prompt_ids": [[7, M, M, 9], [M, 8]], "input_ids": [[7, 8, 8, 9], [7, 8]]}


def _written_out(network, batch, noise):
    """Row by row through the log-probabilities of SUBS: each masked column before the visible end costs its token."""
    totals = []
    for n, clean in enumerate(batch["input_ids"]):
        ids = torch.where(noise.masked[n], M, clean)
        start = int(batch["start"][n])
        stop = len(ids)
        for column in range(start, len(ids)):
            if ids[column] in (0, E):
                stop = column + int(ids[column] == E)
                break
        log_probs = network(ids[None, :stop], None, noise.level[n : n + 1])[0]
        terms = [-log_probs[c, clean[c]] for c in range(stop) if noise.masked[n, c]]
        totals.append(noise.weight[n] * sum(terms))
    return torch.stack([torch.as_tensor(total, dtype=torch.float64) for total in totals])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layout, columns", [("lm", TEXTS), ("seq2seq", PAIRS), ("infill", HOLES)])
@pytest.mark.parametrize("timed", [False, True])
def test_it_is_the_weighted_loss_of_masked_columns(build_network, batch_of, layout, columns, training, timed):
    network = build_network(time_conditioning=timed).train(training)
    batch = batch_of(layout, **columns)
    loss = MdlmLoss(LossConfig(), network)
    (noise,) = loss.noises(batch, seed=3)
    assert not (noise.masked & ~batch["free"]).any()
    out = loss(batch, seed=3)
    expected = _written_out(network, batch, noise)
    tokens = [len(row) + 1 for row in columns["input_ids"]] if layout != "infill" else [2, 1]
    torch.testing.assert_close(out.terms["nll"].total, expected.detach(), check_dtype=False)
    assert out.terms["nll"].count.tolist() == tokens
    torch.testing.assert_close(out.loss, expected.sum() / sum(tokens), check_dtype=False)
    assert out.weight == sum(tokens)
    assert not out.terms["loss"].total.requires_grad


def test_the_gradient_is_that_of_the_written_out_loss(network, batch_of):
    batch = batch_of("seq2seq", **PAIRS)
    loss = MdlmLoss(LossConfig(), network)
    (noise,) = loss.noises(batch, seed=3)
    out = loss(batch, seed=3)
    (_written_out(network, batch, noise).sum() / out.weight).backward()
    expected = {name: p.grad.clone() for name, p in network.named_parameters()}
    network.zero_grad()
    out.loss.backward()
    for name, p in network.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], rtol=1e-5, atol=1e-6, msg=name)
    assert (network.head.weight.grad[M] == 0).all()


class _Flat(torch.nn.Module):
    """Every token but the mask is equally probable: a loss of log(V - 1) a token, whatever is masked."""

    def __init__(self, specials, vocabulary):
        super().__init__()
        self.specials = specials
        self.head = torch.nn.Linear(4, vocabulary, bias=False)
        torch.nn.init.zeros_(self.head.weight)

    def hidden(self, ids, valid=None, noise=None, **kwargs):
        return torch.ones(*ids.shape, 4)


@pytest.mark.parametrize("samples", [1, 3])
def test_a_constant_cross_entropy_is_the_loss_per_token(specials, tokenizer, batch_of, samples):
    """By counting, for every draw; by time, on average: not 2 times, and not 5 times at batch 1."""
    flat = _Flat(specials, len(tokenizer)).eval()
    truth = math.log(len(tokenizer) - 1)
    for columns in ([[7, 8, 9, 10]], [[7], [8, 8, 8], [9, 9, 9, 9]]):
        batch = batch_of("lm", input_ids=columns, padding="ignore")
        for seed in range(5):
            out = MdlmLoss(LossConfig(eval_samples=samples), flat)(batch, seed=seed)
            assert out.loss.item() == pytest.approx(truth, rel=1e-6)
    flat.train()
    many = batch_of("lm", input_ids=[[7] * 20] * 3000, length=20, padding="ignore")
    rows = MdlmLoss(LossConfig(), flat)(many, seed=0).terms["nll"]
    error = rows.total.std().item() / 21 / math.sqrt(3000)
    assert (rows.total.sum() / rows.count.sum()).item() == pytest.approx(truth, abs=4 * error)


def test_weight_times_share_of_masked_columns_is_one(specials, tokenizer, batch_of):
    """Which noise is drawn: levels uniform in law, columns masked with that probability, weights their inverse."""
    flat = _Flat(specials, len(tokenizer)).train()
    batch = batch_of("lm", input_ids=[[7] * 50] * 2000, length=50, padding="ignore")
    (noise,) = MdlmLoss(LossConfig(), flat).noises(batch, seed=0)
    torch.testing.assert_close(noise.weight * noise.level, torch.ones_like(noise.level))
    assert kstest(noise.level.numpy(), "uniform").pvalue > 1e-3
    shares = noise.masked.double().mean(-1)
    assert ((shares - noise.level) / (noise.level * (1 - noise.level) / 51).sqrt()).std().item() == pytest.approx(1, abs=0.1)
    flat.eval()
    (noise,) = MdlmLoss(LossConfig(), flat).noises(batch, seed=0)
    counts = noise.masked.sum(-1)
    assert chisquare(counts.bincount(minlength=52)[1:]).pvalue > 1e-3
    torch.testing.assert_close(noise.weight * counts, torch.full((2000,), 51.0), check_dtype=False)
    assert kstest(noise.level.numpy(), "uniform").pvalue > 1e-3
    assert chisquare(noise.masked.sum(0)[1:]).pvalue > 1e-3


def test_samples_of_a_row_are_strata(specials, tokenizer, batch_of):
    flat = _Flat(specials, len(tokenizer)).eval()
    batch = batch_of("lm", input_ids=[[7] * 39] * 20, length=39, padding="ignore")
    copies = list(MdlmLoss(LossConfig(eval_samples=4), flat).noises(batch, seed=0))
    counts = torch.stack([noise.masked.sum(-1) for noise in copies])
    assert ((counts > 10 * torch.arange(4)[:, None]) & (counts <= 10 * (torch.arange(4)[:, None] + 1))).all()
    assert not torch.equal(copies[0].masked, copies[1].masked & copies[0].masked)


def test_times_of_a_step_are_spread_over_its_ranks_and_micro_batches(specials, tokenizer, batch_of):
    flat = _Flat(specials, len(tokenizer)).train()
    loss = MdlmLoss(LossConfig(), flat)
    step = range(640, 640 + 64)
    levels = []
    for rank in (0, 1):
        mine = list(step)[rank::2]
        for n in range(0, 32, 8):
            batch = batch_of("lm", input_ids=[[7]] * 8, draws=mine[n : n + 8])
            (noise,) = loss.noises(batch, seed=0)
            levels.append(noise.level)
    ordered = torch.cat(levels).sort().values
    assert torch.cat([ordered[:1], ordered.diff(), 1 - ordered[-1:]]).max() < 2 / 64


@pytest.mark.parametrize("training", [True, False])
def test_padding_and_other_rows_change_nothing(network, batch_of, training):
    loss = MdlmLoss(LossConfig(), network.train(training))
    narrow = loss(batch_of("seq2seq", **PAIRS), seed=0)
    narrow.loss.backward()
    gradient = network.blocks[0].attention.qkv.weight.grad.clone()
    network.zero_grad()
    wide = loss(batch_of("seq2seq", **PAIRS, prompt_length=20, pad_to_longest=False), seed=0)
    wide.loss.backward()
    torch.testing.assert_close(wide.loss, narrow.loss)
    torch.testing.assert_close(wide.terms["nll"].total, narrow.terms["nll"].total)
    torch.testing.assert_close(network.blocks[0].attention.qkv.weight.grad, gradient)
    assert wide.weight == narrow.weight == 3 + 5 + 2 + 1
    for n in range(4):
        one = {name: values[n : n + 1] for name, values in PAIRS.items()}
        alone = loss(batch_of("seq2seq", **one, draws=[n]), seed=0)
        torch.testing.assert_close(alone.terms["nll"].total[0], narrow.terms["nll"].total[n])


def test_micro_batches_weighted_by_their_tokens_average_to_the_whole_batch(network, batch_of):
    loss = MdlmLoss(LossConfig(), network.train())
    whole = loss(batch_of("seq2seq", **PAIRS), seed=0).loss
    parts = []
    for rows in (slice(0, 1), slice(1, 4)):
        some = {name: values[rows] for name, values in PAIRS.items()}
        parts.append(loss(batch_of("seq2seq", **some, draws=list(range(4))[rows]), seed=0))
    weighted = sum(part.loss * part.weight for part in parts) / sum(part.weight for part in parts)
    torch.testing.assert_close(weighted, whole)


def test_modelled_padding_counts_only_when_asked_for(network, batch_of):
    batch = batch_of("lm", **TEXTS)
    plain, counted = (MdlmLoss(LossConfig(count_padding=count), network)(batch, seed=0) for count in (False, True))
    assert (plain.weight, counted.weight) == (5 + 3 + 1 + 7, 4 * 7)
    torch.testing.assert_close(plain.terms["nll"].total, counted.terms["nll"].total)


def test_packed_documents_have_the_loss_that_they_have_alone(build_network, batch_of):
    network = build_network(learned_positions=8)
    loss = MdlmLoss(LossConfig(), network)
    packed = batch_of("lm", input_ids=[[7, 8, E, 9, 9, 9, E]], segment_ids=[[0] * 3 + [1] * 4], length=7)
    apart = batch_of("lm", input_ids=[[7, 8], [9, 9, 9]], padding="ignore")
    for masked in ([0, 1, 1, 1, 0, 1, 1, 1, 1], [0, 1, 0, 0, 0, 0, 1, 0, 1], [0, 0, 0, 1, 0, 1, 1, 1, 0]):
        ones = torch.ones(2, dtype=torch.float64)
        together = loss.nll(packed, Noise(torch.tensor([masked]).bool(), ones[:1], ones[:1]))
        rows = torch.tensor([[*masked[:4], 0], masked[4:]]).bool()
        torch.testing.assert_close(together[0], loss.nll(apart, Noise(rows, ones, ones)).sum())


def test_the_head_sees_only_masked_columns_before_the_end(network, batch_of, monkeypatch):
    seen = []
    spy = lambda h, w, t: seen.append((h.shape, w.shape)) or linear_cross_entropy(h, w, t)  # noqa: E731
    monkeypatch.setattr("xlm_family_mdlm.loss.linear_cross_entropy", spy)
    loss = MdlmLoss(LossConfig(), network)
    batch = batch_of("lm", input_ids=[[7, 8, 9], [10]], length=4)
    masked = torch.tensor([[0, 1, 0, 1, 0, 1], [0, 0, 0, 1, 1, 1]]).bool()  # the ends are visible
    loss.nll(batch, Noise(masked, torch.ones(2), torch.ones(2)))
    assert seen == [((2, 32), (12, 32))]


@pytest.mark.parametrize("training", [True, False])
def test_a_batch_is_not_edited(network, batch_of, training):
    for batch in (batch_of("seq2seq", **PAIRS), batch_of("lm", input_ids=[[7, E, 8]], segment_ids=[[0, 0, 1]])):
        before = copy.deepcopy(batch)
        MdlmLoss(LossConfig(eval_samples=2), network.train(training))(batch, seed=0).loss.backward()
        assert batch.keys() == before.keys()
        assert all(torch.equal(batch[name], before[name]) for name in batch)


@pytest.mark.parametrize("training", [True, False])
def test_rows_without_a_hole_give_zero_not_nan(network, batch_of, training):
    batch = batch_of("infill", prompt_ids=[[7, 8]], input_ids=[[7, 8]])
    out = MdlmLoss(LossConfig(), network.train(training))(batch, seed=0)
    out.loss.backward()
    assert out.loss == out.weight == 0
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_noise_is_a_function_of_the_seed_and_the_draw(network, batch_of):
    loss = MdlmLoss(LossConfig(), network.train())
    batch = batch_of("lm", input_ids=[[7, 8, 9, 10, 11, 12]] * 4, draws=[5, 5, 6, 7])
    first, again, other = (next(loss.noises(batch, seed)) for seed in (0, 0, 1))
    assert torch.equal(first.masked, again.masked)
    assert torch.equal(first.masked[0], first.masked[1])
    assert not torch.equal(first.masked[1], first.masked[2])
    assert not torch.equal(first.masked, other.masked)


def test_bfloat16_is_within_its_rounding_of_float64(network, batch_of):
    batch = batch_of("lm", input_ids=[[7, 8, 9, 10, 11, 12] * 10, [9, 9, 9, 7]], length=60)
    exact = MdlmLoss(LossConfig(), network)(batch, seed=0).loss
    single = copy.deepcopy(network).float()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = MdlmLoss(LossConfig(), single)(batch, seed=0)
    assert rounded.loss.item() == pytest.approx(exact.item(), rel=0.03)


@pytest.mark.parametrize(
    "changes", [{"schedule": "square"}, {"train_estimator": "token"}, {"eval_samples": 0}, {"min_noise": 1.0}]
)
def test_impossible_values_are_refused(network, changes):
    with pytest.raises(ConfigError):
        MdlmLoss(LossConfig(**changes), network)
