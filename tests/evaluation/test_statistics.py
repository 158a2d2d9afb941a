"""Ratio meters against the bootstrap and against textbook formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from xlm_core.evaluation.statistics import Estimate, RatioMeter, bootstrap, mean, wilson
from xlm_core.protocols import Ratio


def meter(total: np.ndarray, count: np.ndarray, cuts: list[int]) -> RatioMeter:
    found = RatioMeter()
    for t, c in zip(np.split(total, cuts), np.split(count, cuts), strict=True):
        found.update(Ratio(torch.tensor(t), torch.tensor(c)))
    return found


def test_a_plain_mean_has_the_textbook_standard_error():
    values = np.random.default_rng(0).normal(3.0, 2.0, 500)
    estimate = meter(values, np.ones(500), []).estimate()
    assert estimate is not None
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.stderr == pytest.approx(values.std(ddof=1) / math.sqrt(500))
    assert estimate.n == 500


def test_a_share_has_the_binomial_standard_error():
    hits = np.array([1.0] * 30 + [0.0] * 70)
    estimate = meter(hits, np.ones(100), []).estimate()
    assert estimate is not None
    assert estimate.stderr == pytest.approx(math.sqrt(0.3 * 0.7 / 99))


def test_a_token_weighted_mean_has_the_standard_error_of_the_bootstrap():
    random = np.random.default_rng(1)
    count = random.integers(1, 40, 400).astype(float)
    total = count * random.normal(2.0, 0.5, 400) + random.normal(0, 3, 400)
    estimate = meter(total, count, [10, 200]).estimate()
    rows = random.integers(0, 400, (4000, 400))
    resampled = total[rows].sum(1) / count[rows].sum(1)
    assert estimate is not None
    assert estimate.value == pytest.approx(total.sum() / count.sum())
    assert estimate.stderr == pytest.approx(resampled.std(), rel=0.1)


def test_grouping_does_not_matter_and_states_of_ranks_add_up():
    random = np.random.default_rng(2)
    total, count = random.normal(size=64), random.integers(0, 5, 64).astype(float)
    whole = meter(total, count, [1, 7, 50]).estimate()
    parts = meter(total[:20], count[:20], []).state() + meter(total[20:], count[20:], []).state()
    joined = RatioMeter().estimate(parts)
    assert whole is not None
    assert joined is not None
    assert (joined.value, joined.stderr, joined.n) == pytest.approx((whole.value, whole.stderr, whole.n))


def test_rows_without_units_count_nowhere_even_if_their_total_is_nan():
    estimate = meter(np.array([1.0, np.nan, 3.0]), np.array([1.0, 0.0, 1.0]), []).estimate()
    assert estimate is not None
    assert (estimate.value, estimate.n) == (2.0, 2)
    assert meter(np.array([np.nan]), np.array([0.0]), []).estimate() is None


def test_one_row_has_no_standard_error():
    assert meter(np.array([4.0]), np.array([2.0]), []).estimate() == Estimate(2.0, None, 1)


def test_exp_follows_the_delta_method():
    found = Estimate(1.5, 0.01, 10).exp()
    assert found.value == pytest.approx(math.exp(1.5))
    assert found.stderr == pytest.approx((math.exp(1.51) - math.exp(1.49)) / 2, rel=1e-3)


@pytest.mark.parametrize("hits", [0, 1, 37, 99, 100])
def test_the_interval_of_a_share_is_the_one_of_scipy(hits):
    found = meter(np.array([1.0] * hits + [0.0] * (100 - hits)), np.ones(100), [50]).estimate()
    expected = stats.binomtest(hits, 100).proportion_ci(method="wilson")
    assert found is not None
    assert found.interval == pytest.approx((expected.low, expected.high))
    assert wilson(hits / 100, 100) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("total", "count"), [([0.5, 1.0], [1.0, 1.0]), ([1.0, 0.0], [1.0, 2.0]), ([2.0, 0.0], [1.0, 1.0])])
def test_what_is_no_share_has_no_such_interval(total, count):
    found = meter(np.array(total), np.array(count), []).estimate()
    assert found is not None
    assert found.interval is None


def test_intervals_follow_their_values_into_other_units():
    estimate = Estimate(1.0, 0.1, 5, (0.5, 2.0))
    assert estimate.exp().interval == pytest.approx((math.exp(0.5), math.exp(2.0)))
    assert estimate.scaled(-2.0).interval == (-4.0, -1.0)


def test_the_bootstrap_of_a_mean_has_its_standard_error_and_normal_interval():
    values = np.random.default_rng(3).normal(5.0, 2.0, 400)
    found = bootstrap(400, lambda rows: float(values[rows].mean()), resamples=4000)
    stderr = values.std(ddof=1) / 20
    assert found.value == pytest.approx(values.mean())
    assert found.stderr == pytest.approx(stderr, rel=0.05)
    assert found.interval == pytest.approx((values.mean() - 1.96 * stderr, values.mean() + 1.96 * stderr), abs=0.1 * stderr)


def test_the_bootstrap_of_a_median_covers_as_often_as_it_says():
    random = np.random.default_rng(4)
    covered = 0
    for trial in range(200):
        values = random.exponential(size=101)
        found = bootstrap(101, lambda rows, v=values: float(np.median(v[rows])), resamples=300, seed=trial)
        assert found.interval is not None
        covered += found.interval[0] <= math.log(2) <= found.interval[1]
    assert stats.binomtest(covered, 200, 0.95).pvalue > 1e-3


def test_a_mean_leaves_out_what_is_missing():
    found = mean([1.0, None, 4.0])
    assert found is not None
    assert (found.value, found.n, found.interval) == (2.5, 2, None)
    assert found.stderr == pytest.approx(1.5)
    assert mean([None]) is None
