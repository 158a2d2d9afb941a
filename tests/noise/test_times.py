"""Even spreading of diffusion times over draws."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from scipy.stats import kstest

from xlm_core.noise.times import low_discrepancy, stratum


def _largest_gap(times):
    ordered = torch.cat([times.sort().values, times.min()[None] + 1])
    return ordered.diff().max().item()


@pytest.mark.parametrize("rows", [2, 7, 64, 513, 4096])
@pytest.mark.parametrize("first", [0, 12_345, 2**60])
def test_a_step_is_stratified_however_it_is_divided(rows, first):
    """Ranks take every other row and accumulate in micro-batches; together they have a time in every interval of 2 / rows."""
    draws = torch.arange(first, first + rows)
    parts = [micro for rank in (draws[::2], draws[1::2]) for micro in rank.split(5)]
    times = torch.cat([low_discrepancy(3, part) for part in parts])
    assert _largest_gap(times) < 2 / rows
    assert torch.equal(times.sort().values, low_discrepancy(3, draws).sort().values)


def test_it_is_the_recurrence_of_the_golden_ratio():
    draws = torch.tensor([0, 1, 2, 10**6, 10**12, 2**61])
    start, *rest = (Fraction(x) for x in low_discrepancy(0, draws).tolist())
    step = Fraction(0x9E3779B97F4A7C15, 2**64)
    for draw, time in zip(draws.tolist()[1:], rest, strict=True):
        difference = (start + draw * step - time + Fraction(1, 2)) % 1 - Fraction(1, 2)
        assert abs(difference) < Fraction(1, 2**51)


def test_each_time_alone_is_uniform():
    """Over seeds, whatever the draw."""
    for draw in (0, 17):
        times = [low_discrepancy(seed, torch.tensor([draw])).item() for seed in range(800)]
        assert kstest(times, "uniform").pvalue > 1e-3
    streams = [low_discrepancy(0, torch.tensor([5]), stream).item() for stream in range(200)]
    assert kstest(streams, "uniform").pvalue > 1e-3
    assert len(set(streams)) == 200


def test_means_are_far_better_than_those_of_independent_times():
    """The mean of exp over 64 draws: its deviation is below 0.3 of that of independent ones, 0.49 / 8."""
    means = torch.stack([low_discrepancy(seed, torch.arange(64)).exp().mean() for seed in range(300)])
    assert means.mean().item() == pytest.approx(torch.e - 1, abs=1e-3)
    assert means.std().item() < 0.3 * 0.492 / 8


def test_strata_of_a_row():
    uniform = torch.tensor([0.1, 0.9], dtype=torch.float64)
    parts = torch.stack([stratum(uniform, index, 4) for index in range(4)])
    torch.testing.assert_close(parts[:, 0], torch.tensor([0.025, 0.275, 0.525, 0.775], dtype=torch.float64))
    assert ((parts * 4).floor() == torch.arange(4)[:, None]).all()
