"""Counter-based numbers: their law, their independence, and what they may depend on."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy import stats

from xlm_core.sampling.random import RowRandom

N = 40_000
ALPHA = 1e-4


def rows(n=N, *, seed=0, stream=0, first=0):
    return RowRandom(seed, torch.arange(first, first + n), stream)


def twin(seed, draw, stream, step, index):
    """The same number with Python's integers: SplitMix64's finaliser over the running key, then 52 bits."""
    word, golden = (1 << 64) - 1, 0x9E3779B97F4A7C15

    def mix(x):
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & word
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & word
        return x ^ (x >> 31)

    key = mix(((seed * 4 + 1) % (1 << 63) + golden * (stream + 1)) & word)
    key = mix(key ^ ((draw * golden + 1) & word))
    key = mix((key + golden * (step + 1)) & word)
    return ((mix(mix((key + golden * (index + 1)) & word)) >> 12) + 0.5) / 2**52


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**62 + 3])
@pytest.mark.parametrize("stream", [0, 1, 2, 7])
def test_numbers_equal_those_of_integer_arithmetic(seed, stream):
    draws, steps = [0, 1, 12_345_678_901], [0, 1, 99]
    for step in steps:
        found = RowRandom(seed, torch.tensor(draws), stream).uniform(step, (3,))
        expected = [[twin(seed, draw, stream, step, index) for index in range(3)] for draw in draws]
        assert found.tolist() == expected


def views():
    many = rows(8)
    yield "over rows", rows().uniform(0)
    yield "over columns", many.uniform(3, (N // 8,)).flatten()
    yield "over steps", torch.stack([many.uniform(step) for step in range(N // 8)]).flatten()
    yield "over seeds", torch.stack([rows(8, seed=seed).uniform(0) for seed in range(N // 8)]).flatten()
    yield "over streams", torch.stack([rows(N // 8, stream=stream).uniform(0) for stream in range(8)]).flatten()


@pytest.mark.parametrize("name, sample", list(views()), ids=lambda v: v if isinstance(v, str) else "")
def test_uniform_law(name, sample):
    assert stats.kstest(sample.numpy(), "uniform").pvalue > ALPHA
    fine = (sample * 2**20).frac()  # the low bits too
    assert stats.kstest(fine.numpy(), "uniform").pvalue > ALPHA


def pairs():
    base = rows()
    u = base.uniform(0)
    yield "neighbouring rows", u[:-1], u[1:]
    yield "neighbouring steps", u, base.uniform(1)
    yield "neighbouring streams", u, rows(stream=1).uniform(0)
    yield "neighbouring seeds", u, rows(seed=1).uniform(0)
    yield "neighbouring columns", base.uniform(0, (2,))[:, 0], base.uniform(0, (2,))[:, 1]
    yield "step of one row and draw of the next", base.uniform(1)[:-1], u[1:]


@pytest.mark.parametrize("name, x, y", list(pairs()), ids=lambda v: v if isinstance(v, str) else "")
def test_pairs_are_independent(name, x, y):
    cells = 16
    joint = torch.bincount((x * cells).long() * cells + (y * cells).long(), minlength=cells * cells)
    assert stats.chisquare(joint.numpy()).pvalue > ALPHA
    assert abs(stats.pearsonr(x.numpy(), y.numpy()).statistic) < 4 / math.sqrt(len(x))


def test_every_bit_is_fair():
    bits = rows(4000).bits(0, (4,)).flatten()
    ones = torch.stack([(bits >> place) & 1 for place in range(64)]).double().mean(1)
    assert (ones - 0.5).abs().max() < 4.5 * 0.5 / math.sqrt(len(bits))


def test_extreme_bits_stay_inside_the_open_interval(monkeypatch):
    """A uniform of exactly 1 would index past the end of a cumulative law."""
    extreme = torch.tensor([-1, 0, 1 << 62, -(1 << 63)])
    random = rows(4)
    monkeypatch.setattr(random, "bits", lambda step, shape=(): extreme)
    u = random.uniform(0)
    assert ((u > 0) & (u < 1)).all()
    assert random.integers(0, torch.full((4,), 5)).tolist() == [4, 0, 1, 2]


def test_a_row_depends_on_nothing_but_its_draw_number():
    order = torch.tensor([5, 999, 0, 7])
    whole, part = RowRandom(3, torch.arange(1000), 2), RowRandom(3, order, 2)
    valid = torch.arange(6) < torch.tensor([2, 6, 0, 4])[:, None]
    spread = torch.zeros(1000, 6, dtype=torch.bool).index_copy(0, order, valid)
    assert torch.equal(whole.uniform(4, (2, 3))[order], part.uniform(4, (2, 3)))
    assert torch.equal(whole.integers(4, torch.full((1000,), 9))[order], part.integers(4, torch.full((4,), 9)))
    assert torch.equal(whole.permutation_ranks(4, spread)[order], part.permutation_ranks(4, valid))


def test_each_row_may_have_its_own_step():
    random, steps = rows(4), torch.tensor([3, 0, 3, 8])
    expected = torch.stack([random.uniform(int(step), (5,))[row] for row, step in enumerate(steps)])
    assert torch.equal(random.uniform(steps, (5,)), expected)


def test_a_longer_request_begins_with_the_same_numbers():
    assert torch.equal(rows(3).uniform(1, (50,))[:, :20], rows(3).uniform(1, (20,)))


@pytest.mark.parametrize("high", [1, 2, 3, 7, 10])
def test_integers_are_unbiased(high):
    found = rows(first=10).integers(0, torch.full((N,), high))
    counts = torch.bincount(found, minlength=high)
    assert len(counts) == high
    assert high == 1 or stats.chisquare(counts.numpy()).pvalue > ALPHA


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_permutations_are_uniform_over_all_orders(k):
    """The valid columns are not the first ones, and every order of them is as frequent."""
    valid = torch.tensor([False, True, True, False, True, True])
    valid[valid.nonzero()[k:, 0]] = False
    ranks = rows().permutation_ranks(1, valid.expand(N, -1))[:, valid]
    orders = {order: i for i, order in enumerate(itertools.permutations(range(k)))}
    counts = torch.bincount(torch.tensor([orders[tuple(row)] for row in ranks.tolist()]), minlength=len(orders))
    assert int(counts.sum()) == N
    assert k == 1 or stats.chisquare(counts.numpy()).pvalue > ALPHA


def test_ranks_ignore_padding_and_put_it_last():
    lengths = torch.tensor([0, 1, 4, 7])
    narrow, wide = (torch.arange(width) < lengths[:, None] for width in (7, 12))
    short, long = rows(4).permutation_ranks(0, narrow), rows(4).permutation_ranks(0, wide)
    for row, length in enumerate(lengths.tolist()):
        assert sorted(short[row, :length].tolist()) == list(range(length))
        assert short[row, :length].tolist() == long[row, :length].tolist()
        assert (long[row, length:] >= length).all()
