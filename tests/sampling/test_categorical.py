"""Drawing by inversion: exact tails, impossible outcomes, extreme uniforms, and what a config means."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from xlm_core.config import SamplingConfig
from xlm_core.sampling.categorical import categorical, choose
from xlm_core.sampling.random import RowRandom

INF = math.inf


def uniform(n, step=0):
    return RowRandom(0, torch.arange(n)).uniform(step)


def test_zipf_law_over_a_full_vocabulary_has_its_whole_tail():
    """A float32 race over 50,257 outcomes gives the ranks beyond 1,000 a third of the mass that they should have."""
    vocabulary, n = 50_257, 3000
    rank = torch.arange(1, vocabulary + 1, dtype=torch.float64)
    law = rank.reciprocal() / rank.reciprocal().sum()
    logits = -rank.log().float().expand(20, -1)
    draws = torch.cat([categorical(logits, part).index for part in uniform(n).split(len(logits))])
    for beyond in (10, 1000, 20_000):
        true = float(law[beyond:].sum())
        found = float((draws >= beyond).double().mean())
        assert abs(found - true) < 3 * math.sqrt(true * (1 - true) / n), beyond
    edges = torch.tensor([1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000])
    cells = torch.bucketize(draws, edges, right=True)
    cell_of = torch.bucketize(torch.arange(vocabulary), edges, right=True)
    expected = torch.zeros(len(edges) + 1, dtype=torch.float64).index_add(0, cell_of, law)
    assert stats.chisquare(torch.bincount(cells, minlength=len(expected)).numpy(), (expected * n).numpy()).pvalue > 1e-4


def test_a_rare_winner_of_one_in_a_million_can_win():
    logits = torch.tensor([0.0, math.log(1e-6)])
    rare = categorical(logits.expand(3, -1), torch.tensor([1 - 2e-6, 1 - 0.5e-6, 1 - 1e-12], dtype=torch.float64))
    assert rare.index.tolist() == [0, 1, 1]
    assert rare.probability[1].item() == pytest.approx(1e-6 / (1 + 1e-6), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_law_is_the_softmax(dtype):
    logits = torch.tensor([[0.0, -INF, 2.0, -1.0, -INF], [1.0, 1.0, 1.0, 1.0, 1.0]], dtype=dtype)
    n = 20_000
    choice = categorical(logits[:, None].expand(-1, n, -1), torch.stack([uniform(n), uniform(n, 1)]))
    law = logits.double().softmax(-1)
    for row in range(2):
        possible = law[row] > 0
        counts = torch.bincount(choice.index[row], minlength=5)
        assert (counts[~possible] == 0).all()
        assert stats.chisquare(counts[possible].numpy(), (law[row] * n)[possible].numpy()).pvalue > 1e-4
        assert torch.allclose(choice.probability[row], law[row][choice.index[row]], atol=1e-15)


@pytest.mark.parametrize("u", [2.0**-53, 2.0**-1000, 1 - 2.0**-53])
def test_impossible_outcomes_at_the_ends_are_never_drawn(u):
    torch.manual_seed(0)
    logits = torch.randn(500, 12) * 20
    logits[:, [0, 1, 5, 10, 11]] = -INF
    index = categorical(logits, torch.full((500,), u, dtype=torch.float64)).index
    assert logits.gather(-1, index[:, None]).isfinite().all()


def test_a_single_possible_outcome_is_certain():
    logits = torch.full((3, 4), -INF)
    logits[:, 2] = -123.0
    choice = categorical(logits, torch.tensor([1e-300, 0.5, 1 - 2.0**-53], dtype=torch.float64))
    assert choice.index.tolist() == [2, 2, 2]
    assert choice.probability.tolist() == [1, 1, 1]


def counts_of(cfg, logits, n=30_000):
    choice = choose(logits.expand(n, -1), cfg, uniform(n))
    return torch.bincount(choice.index, minlength=len(logits)), choice


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_temperature_divides_the_logits(temperature):
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5])
    counts, choice = counts_of(SamplingConfig(temperature=temperature), logits)
    law = (logits.double() / temperature).softmax(-1)
    assert stats.chisquare(counts.numpy(), (law * counts.sum()).numpy()).pvalue > 1e-4
    assert torch.allclose(choice.probability, law[choice.index])


def test_truncation_comes_after_temperature():
    """At temperature 4 the nucleus of 0.8 has three outcomes; at 1 it would have one."""
    logits = torch.tensor([3.0, 0.5, 0.0, -2.0])
    counts, _ = counts_of(SamplingConfig(temperature=4.0, top_p=0.8), logits)
    law = (logits.double() / 4).softmax(-1)
    assert counts[3] == 0
    assert stats.chisquare(counts[:3].numpy(), (law[:3] / law[:3].sum() * counts.sum()).numpy()).pvalue > 1e-4


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"top_k": 1}, {"top_k": 1, "temperature": 3.0}])
def test_a_greedy_config_takes_the_most_probable(options):
    torch.manual_seed(0)
    logits = torch.randn(50, 30)
    choice = choose(logits, SamplingConfig(**options), uniform(50))
    assert torch.equal(choice.index, logits.argmax(-1))
    assert torch.allclose(choice.probability, logits.double().softmax(-1).amax(-1))


def test_a_row_is_chosen_alone_as_in_a_batch():
    torch.manual_seed(0)
    logits, u = torch.randn(8, 3, 20), RowRandom(0, torch.arange(8)).uniform(0, (3,))
    cfg = SamplingConfig(top_k=5, top_p=0.9)
    whole = choose(logits, cfg, u)
    for row in range(8):
        assert torch.equal(choose(logits[row], cfg, u[row]).index, whole.index[row])
