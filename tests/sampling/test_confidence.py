"""Which masks are filled: confidences against their definitions, choices against a twin that loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from xlm_core.sampling.confidence import ORDERS, confidence, error, even_share, gumbel, select
from xlm_core.sampling.random import RowRandom

INF = math.inf
CONFIDENCES = [order for order in ORDERS if order != "random"]


def by_definition(law, order):
    ranked = sorted(law, reverse=True)
    if order == "top_prob":
        return ranked[0], 1 - ranked[0]
    if order == "prob_diff":
        return ranked[0] - ranked[1], 1 - (ranked[0] - ranked[1])
    entropy = -sum(p * math.log(p) for p in law if p > 0)
    return -entropy, entropy


@pytest.mark.parametrize("order", CONFIDENCES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-5)])
def test_confidences_are_those_of_the_law(order, dtype, tolerance):
    logits = (torch.randn(50, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3).to(dtype)
    logits[::3, 4] = -INF
    found = confidence(logits, order)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    for row, sureness, wrong in zip(logits.double(), found, error(found, order), strict=True):
        law = np.exp(row.numpy() - row.max().item())
        expected = by_definition((law / law.sum()).tolist(), order)
        assert (sureness.item(), wrong.item()) == pytest.approx(expected, abs=tolerance)


def test_confidences_at_the_extremes():
    certain = torch.tensor([-INF, 3.0, -INF, -INF])
    assert [confidence(certain, order).item() for order in CONFIDENCES] == [1, 1, 0]
    assert [error(confidence(certain, order), order).item() for order in CONFIDENCES] == [0, 0, 0]
    even = torch.zeros(4)
    assert [confidence(even, order).item() for order in CONFIDENCES] == pytest.approx([0.25, 0, -math.log(4)])
    assert [confidence(torch.zeros(1), order).item() for order in CONFIDENCES] == [1, 1, 0]
    with pytest.raises(ValueError, match="random"):
        confidence(even, "random")


def test_gumbel_noise_has_its_law_and_its_tails():
    noise = gumbel(RowRandom(0, torch.arange(40_000)).uniform(0))
    assert noise.dtype == torch.float64
    assert stats.kstest(noise.numpy(), stats.gumbel_r.cdf).pvalue > 1e-3
    ends = gumbel(torch.tensor([2.0**-53, 1 - 2.0**-53], dtype=torch.float64))
    assert ends.isfinite().all()
    assert ends[1] > 36  # float32 uniforms end at 16.6


def test_the_largest_perturbed_scores_are_draws_without_replacement():
    """Plackett-Luce: the sets of two from four, each as the sum of the two orders in which it can be drawn."""
    scores, n = torch.tensor([0.3, -1.0, 0.9, 0.1]), 20_000
    noisy = scores.double() + gumbel(RowRandom(0, torch.arange(n)).uniform(0, (4,)))
    chosen = select(noisy, torch.ones(n, 4, dtype=torch.bool), torch.full((n,), 2))
    weight = scores.exp().tolist()
    pairs = list(itertools.combinations(range(4), 2))
    whole = sum(weight)
    law = [
        weight[a] / whole * weight[b] / (whole - weight[a]) + weight[b] / whole * weight[a] / (whole - weight[b])
        for a, b in pairs
    ]
    seen = [int((chosen[:, a] & chosen[:, b]).sum()) for a, b in pairs]
    assert sum(seen) == n
    assert stats.chisquare(seen, [p * n for p in law]).pvalue > 1e-3


@pytest.mark.parametrize("steps", range(1, 25))
def test_shares_add_up_and_no_step_is_wasted(steps):
    """More steps than masks must not make the first ones idle, and the last must not have to fill what is left at once."""
    masks = torch.arange(1, 20)
    remaining, shares = masks.clone(), []
    for step in range(steps):
        shares.append(torch.where(remaining > 0, even_share(remaining, steps - step), 0))
        remaining = remaining - shares[-1]
    assert (remaining == 0).all()
    taken = torch.stack(shares, 1)
    assert ((taken > 0).sum(-1) == masks.clamp(max=steps)).all()
    used = taken.masked_fill(taken == 0, 99).amin(-1)
    assert (taken.amax(-1) - used <= 1).all()
    assert (taken.diff(dim=-1) <= 0).all()


def twin(scores, candidates, least, errors=None, threshold=0.0):
    """One row, one candidate after the other."""
    order = sorted((column for column, on in enumerate(candidates) if on), key=lambda column: (-scores[column], column))
    chosen, spent = [], 0.0
    for column in order:
        sure = errors is not None and spent < threshold
        if len(chosen) >= least and not sure:
            break
        chosen.append(column)
        spent += errors[column] if errors is not None else 0
    return [column in chosen for column in range(len(scores))]


@pytest.mark.parametrize("threshold", [None, 0.0, 0.05, 0.5, 2.0, INF])
def test_choices_are_those_of_a_loop(threshold):
    rng = np.random.default_rng(0)
    rows, columns = 300, 11
    scores = torch.from_numpy(rng.integers(0, 6, (rows, columns)) / 6)  # many ties
    candidates = torch.from_numpy(rng.random((rows, columns)) < rng.random((rows, 1)))
    least = torch.from_numpy(rng.integers(1, columns + 2, rows))
    errors = None if threshold is None else torch.from_numpy(rng.random((rows, columns)) ** 3)
    chosen = select(scores, candidates, least, errors=errors, threshold=threshold or 0.0)
    for row in range(rows):
        extra = () if errors is None else (errors[row].tolist(), threshold)
        assert chosen[row].tolist() == twin(scores[row].tolist(), candidates[row].tolist(), int(least[row]), *extra)


def test_a_threshold_counts_errors_and_not_places():
    """Errors before a candidate are added up; its place in the row says nothing."""
    errors = torch.tensor([[0.3, 0.01, 0.2, 0.02, 0.4, 0.03]])
    everyone = torch.ones(1, 6, dtype=torch.bool)
    for threshold, expected in [
        (0.0, [1]),
        (0.005, [1]),
        (0.02, [1, 3]),
        (0.05, [1, 3, 5]),
        (0.1, [1, 2, 3, 5]),
        (0.3, [0, 1, 2, 3, 5]),
    ]:
        chosen = select(1 - errors, everyone, torch.tensor([1]), errors=errors, threshold=threshold)
        assert chosen[0].nonzero()[:, 0].tolist() == expected, threshold


def test_more_is_taken_at_a_higher_threshold_and_at_least_what_is_due():
    generator = torch.Generator().manual_seed(0)
    errors = torch.rand(40, 16, generator=generator)
    candidates = torch.rand(40, 16, generator=generator) < 0.7
    candidates[:, 0] = True
    due = torch.tensor([1, 2, 3, 4] * 10)
    chosen = [select(1 - errors, candidates, due, errors=errors, threshold=t) for t in (0.0, 0.1, 0.5, 1.0, 3.0)]
    for few, more in itertools.pairwise(chosen):
        assert (more | ~few).all()
    assert (chosen[0].sum(-1) == torch.minimum(due, candidates.sum(-1))).all()
    assert chosen[-1].sum() > chosen[0].sum()


def test_all_of_a_row_can_be_taken_at_once():
    chosen = select(torch.rand(3, 5), torch.ones(3, 5, dtype=torch.bool), torch.tensor([5, 4, 9]))
    assert chosen.sum(-1).tolist() == [5, 4, 5]


def test_columns_that_are_no_candidates_change_nothing():
    generator = torch.Generator().manual_seed(0)
    scores, errors = torch.rand(20, 8, generator=generator), torch.rand(20, 8, generator=generator)
    candidates = torch.rand(20, 8, generator=generator) < 0.6
    pad = torch.full((20, 5), 7.0)
    wide = select(
        torch.cat([scores, pad], 1),
        torch.cat([candidates, pad < 0], 1),
        torch.full((20,), 2),
        errors=torch.cat([errors, pad], 1),
        threshold=0.7,
    )
    assert torch.equal(wide[:, :8], select(scores, candidates, torch.full((20,), 2), errors=errors, threshold=0.7))
    assert not wide[:, 8:].any()
