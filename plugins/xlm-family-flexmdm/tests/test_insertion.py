"""How many masks are inserted: what a head says, thinned, placed, and cut to the room that there is."""

from __future__ import annotations

from math import comb

import pytest
import torch
from scipy.stats import binom, chisquare, poisson
from xlm_family_flexmdm.chance import Chance
from xlm_family_flexmdm.gaps import Distribution, Expectation
from xlm_family_flexmdm.insertion import evenly, insertions

from xlm_core.sampling.random import RowRandom

ROWS = 20_000


def _draw(gaps, *, open_gaps, room=50, most=50, probability=0.4, how="rounded", rows=ROWS):
    columns = len(open_gaps)
    chance = Chance(RowRandom(0, torch.arange(rows)), 3, torch.arange(rows))
    opens = torch.tensor(open_gaps, dtype=torch.bool).expand(rows, columns)
    return insertions(gaps, opens, torch.full((rows,), room), most, probability, how, chance)


def _expectation(means, rows=ROWS):
    return Expectation(torch.tensor(means, dtype=torch.float64).log().expand(rows, -1))


def _follows(counts, law):
    observed = counts.bincount(minlength=len(law)).tolist()
    expected = [p * len(counts) for p in law]
    keep = [k for k, e in enumerate(expected) if e >= 5]
    rest = len(counts) - sum(expected[k] for k in keep)
    groups = [observed[k] for k in keep], [expected[k] for k in keep]
    if rest > 1e-3:
        groups = [*groups[0], len(counts) - sum(groups[0])], [*groups[1], rest]
    return chisquare(*groups).pvalue > 1e-3


def test_expectations_are_rounded_so_that_each_is_a_mean_and_the_total_is_near():
    """2.3 and 0.5 missing tokens are 2 or 3 in all; each is inserted with the probability of the step."""
    every = _draw(_expectation([2.3, 9.0, 0.5]), open_gaps=[1, 0, 1], probability=1.0)
    assert _follows(every.counts.sum(-1), [0, 0, 0.2, 0.8])
    assert _follows(every.counts[:, 0], [0, 0, 0.7, 0.3])
    assert _follows(every.counts[:, 2], [0.5, 0.5])
    assert not every.counts[:, 1].any(), "a closed gap takes nothing"
    some = _draw(_expectation([2.3, 9.0, 0.5]), open_gaps=[1, 0, 1])
    two, three = binom(2, 0.4), binom(3, 0.4)
    assert _follows(some.counts[:, 0], [0.7 * two.pmf(k) + 0.3 * three.pmf(k) for k in range(4)])
    assert _follows(some.counts[:, 2], [0.8, 0.2])
    assert not some.refused.any()


def test_a_total_that_is_known_is_never_missed():
    """Two tokens are missing somewhere in seven gaps."""
    drawn = _draw(_expectation([2 / 7] * 7), open_gaps=[1] * 7, probability=1.0)
    assert (drawn.counts.sum(-1) == 2).all()
    torch.testing.assert_close(drawn.counts.double().mean(0), torch.full((7,), 2 / 7, dtype=torch.float64), atol=0.015, rtol=0)


def test_a_law_is_drawn_from_and_then_thinned():
    law = torch.tensor([0.2, 0.5, 0.0, 0.3], dtype=torch.float64)
    drawn = _draw(Distribution(law.log().clamp(min=-690).expand(ROWS, 2, 4)), open_gaps=[1, 1], how="drawn")
    thinned = [sum(law[n] * comb(n, k) * 0.4**k * 0.6 ** (n - k) for n in range(k, 4)) for k in range(4)]
    assert _follows(drawn.counts[:, 0], [float(p) for p in thinned])
    assert abs(float(torch.corrcoef(drawn.counts.T.double())[0, 1])) < 0.03
    rounded = _draw(Distribution(law.log().clamp(min=-690).expand(ROWS, 1, 4)), open_gaps=[1], probability=1.0)
    assert _follows(rounded.counts[:, 0], [0, 0.6, 0.4])


def test_poisson_numbers_of_a_gap_are_poisson():
    drawn = _draw(_expectation([2.3, 0.5, 9.0]), open_gaps=[1, 1, 0], how="poisson")
    for column, mean in ((0, 0.92), (1, 0.2)):
        assert _follows(drawn.counts[:, column], poisson(mean).pmf(range(12)).tolist())
    assert abs(float(torch.corrcoef(drawn.counts[:, :2].double().T)[0, 1])) < 0.03
    assert not drawn.counts[:, 2].any()


def test_the_nearest_total_is_certain():
    for means, counts in (([1.6, 0.2], [2, 0]), ([0.3, 0.3, 0.3], [0, 1, 0]), ([0.1, 0.1, 0.2], [0, 0, 0])):
        drawn = _draw(_expectation(means, 10), open_gaps=[1] * len(means), how="nearest", probability=1.0, rows=10)
        assert drawn.counts.tolist() == [counts] * 10


@pytest.mark.parametrize("how", ["rounded", "poisson"])
def test_what_has_no_room_is_left_out_gap_by_gap_and_counted(how):
    """F13: neither the whole row's insertions nor all of one side."""
    drawn = _draw(_expectation([6.0, 6.0, 12.0]), open_gaps=[1, 1, 1], room=4, most=20, probability=1.0, how=how)
    assert (drawn.counts.sum(-1) <= 4).all()
    full = drawn.counts.sum(-1) == 4
    assert full.double().mean() > 0.999
    if how == "rounded":
        assert (drawn.refused == 20).all()
        assert (drawn.counts == torch.tensor([1, 1, 2])).all()
    else:
        assert float(drawn.refused.double().mean()) == pytest.approx(20, abs=0.2)
        torch.testing.assert_close(
            drawn.counts.double().mean(0), torch.tensor([1, 1, 2.0], dtype=torch.float64), atol=0.05, rtol=0
        )


def test_room_that_nobody_needs_changes_nothing():
    kept = _draw(_expectation([0.6, 0.7]), open_gaps=[1, 1], room=2)
    free = _draw(_expectation([0.6, 0.7]), open_gaps=[1, 1], room=50)
    assert torch.equal(kept.counts, free.counts)


def test_absurd_expectations_cost_no_memory():
    drawn = _draw(_expectation([1e12, 3.0], 4), open_gaps=[1, 1], room=5, most=5, rows=4)
    assert drawn.counts.sum(-1).tolist() == [5] * 4
    drawn = _draw(_expectation([1e12, 3.0], 4), open_gaps=[1, 1], room=5, most=5, rows=4, how="poisson")
    assert drawn.counts.sum(-1).tolist() == [5] * 4


@pytest.mark.parametrize("size", [9.0, 1e3, 1e12])
def test_gaps_have_equal_shares_of_absurd_expectations_too(size):
    drawn = _draw(_expectation([size, 0.0, 2 * size], 4), open_gaps=[1, 1, 1], room=6, most=6, probability=1.0, rows=4)
    assert drawn.counts.tolist() == [[2, 0, 4]] * 4
    assert (drawn.refused >= 18).all()


@pytest.mark.parametrize(
    "drawn, room, taken", [("####", 2, "-#-#"), ("#-#--#", 9, "#-#--#"), ("###", 0, "---"), ("-----", 3, "-----")]
)
def test_insertions_are_taken_evenly(drawn, room, taken):
    flags = torch.tensor([[c == "#" for c in drawn]])
    assert "".join("-#"[f] for f in evenly(flags, torch.tensor([room]))[0].tolist()) == taken


def test_losses_of_expectations_are_those_of_the_poisson_law():
    log_mean = torch.tensor([[-40.0, -1.0, 0.5, 3.0]], dtype=torch.float64, requires_grad=True)
    missing = torch.tensor([[0, 2, 1, 25]])
    loss = Expectation(log_mean).loss(missing)
    best = Expectation(missing.double().clamp(min=1e-300).log()).loss(missing)
    log_pmf = [
        poisson(mean).logpmf(y) for mean, y in zip(log_mean.detach().exp()[0].tolist(), missing[0].tolist(), strict=True)
    ]
    log_best = [poisson(y).logpmf(y) if y else 0.0 for y in missing[0].tolist()]
    torch.testing.assert_close(
        loss[0].detach(), torch.tensor([b - p for b, p in zip(log_best, log_pmf, strict=True)], dtype=torch.float64)
    )
    assert (best.abs() < 1e-12).all()
    loss.sum().backward()
    torch.testing.assert_close(log_mean.grad, log_mean.detach().exp() - missing)


def test_a_law_has_a_mean_and_a_loss():
    law = torch.tensor([[0.5, 0.2, 0.3]], dtype=torch.float64)
    gaps = Distribution(law.log()[None])
    assert float(gaps.log_mean.exp()) == pytest.approx(0.8)
    for missing, chance in ((0, 0.5), (2, 0.3), (7, 0.3)):
        assert float(gaps.loss(torch.tensor([[missing]]))) == pytest.approx(-torch.tensor(chance).log().item())
