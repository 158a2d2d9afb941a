"""How many masks a step inserts, and where.

Of the tokens that are believed to be missing, each is inserted with the exact probability of the step, (a(s) - a(t)) / (1 -
a(t)): binomial leaps, which cannot insert more than is believed to be missing. With Poisson numbers of the same mean this is
the published tau-leaping.

Expectations become whole numbers by rounding their running sum: with a random offset, the same for a whole row, every gap has
its expectation as its mean (systematic sampling), while the row's total is its expectation rounded up or down. So a network
that knows how many tokens are missing, but not where, inserts that many.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from xlm_family_flexmdm.chance import Chance, Use
from xlm_family_flexmdm.gaps import Distribution, Gaps

SPARE = 4
"""A row draws no more insertions at a time than so many times the most that it can ever take, whatever the network believes."""


class Candidates(NamedTuple):
    """The insertions of a step that are drawn, whether there is room for them or not."""

    column: Tensor
    """(N, R) int64: the column left of which each goes, ascending or in random order."""
    drawn: Tensor
    """(N, R) bool: False for one that is not drawn after all."""


class Insertions(NamedTuple):
    counts: Tensor
    """(N, C) int64: masks to insert left of each column."""
    refused: Tensor
    """(N,) int64: insertions that the row had no room for."""


def insertions(
    gaps: Gaps, open_gaps: Tensor, room: Tensor, most: int, probability: float, how: str, chance: Chance
) -> Insertions:
    """Draw a step's insertions. Where a row has room for only some of them, they are taken evenly, so every gap gets its share.

    Args:
        gaps: of (N, C) columns.
        open_gaps: (N, C) bool.
        room: (N,) int64, how many more insertions each row can take.
        most: the most that any row can take from its start on.
        probability: that a missing token is inserted in this step.
        how: rounded, nearest, drawn or poisson; see `PredictorConfig.gap`.
    """
    means = gaps.log_mean.double().exp().masked_fill(~open_gaps, 0.0)
    if how == "poisson":
        column, drawn = _poisson(means * probability, most, chance)
    elif isinstance(gaps, Distribution) and how == "drawn":
        numbers = gaps.drawn(chance(Use.GAP, open_gaps.shape[1])).masked_fill(~open_gaps, 0)
        column, drawn = _binomial(numbers.cumsum(-1), most, probability, chance)
    else:
        offset = chance(Use.GAP, 1) if how == "rounded" else 0.5
        column, drawn = _binomial((means.cumsum(-1) + offset).long(), most, probability, chance)
    taken = evenly(drawn, room)
    counts = torch.zeros_like(open_gaps, dtype=torch.long).scatter_add_(1, column, taken.long())
    # A rounding error in the inversion of a law must not open a gap.
    return Insertions(counts.masked_fill(~open_gaps, 0), (drawn & ~taken).sum(-1))


def evenly(drawn: Tensor, room: Tensor) -> Tensor:
    """(N, R) bool: as many of the drawn as there is room for, evenly spaced among them.

    Args:
        drawn: (N, R) bool.
        room: (N,) int64.
    """
    rank, count = drawn.long().cumsum(-1), drawn.sum(-1)
    share = torch.minimum(count, room)[:, None]
    whole = count.clamp(min=1)[:, None]
    return drawn & (rank * share // whole > (rank - 1) * share // whole)


def _binomial(ends: Tensor, most: int, probability: float, chance: Chance) -> Candidates:
    """Each of the missing tokens on its own.

    Args:
        ends: (N, C) int64, how many are missing in each gap and those before it.
    """
    ends = _bounded(ends, SPARE * most)
    slot = torch.arange(int(ends[:, -1].max()), device=ends.device)
    column = _search(ends, slot.expand(len(ends), -1).contiguous())
    return Candidates(column, (slot < ends[:, -1:]) & (chance(Use.CANDIDATE, len(slot)) < probability))


def _poisson(means: Tensor, most: int, chance: Chance) -> Candidates:
    """A Poisson number for the whole row, each of them in a gap with probability in proportion to its mean: the same law as
    independent Poisson numbers a gap.

    Args:
        means: (N, C) float64.
    """
    ends = means.cumsum(-1)
    mean = ends[:, -1:]
    numbers = torch.arange(SPARE * most, device=ends.device, dtype=torch.float64)
    law = (torch.xlogy(numbers, mean) - mean - torch.lgamma(numbers + 1)).exp()
    total = (law.cumsum(-1) < chance(Use.TOTAL)[:, None]).sum(-1)
    slot = torch.arange(int(total.max()), device=ends.device)
    return Candidates(_search(ends, chance(Use.PLACE, len(slot)) * mean), slot < total[:, None])


def _bounded(ends: Tensor, most: int) -> Tensor:
    """Cumulative numbers (N, C), scaled down in rows whose total is above `most`: each gap keeps its share."""
    total = ends[:, -1:].double()
    return torch.where(total > most, (ends * (most / total.clamp(min=1)) + 0.5).long(), ends)


def _search(ends: Tensor, value: Tensor) -> Tensor:
    """The first column whose cumulative sum is above each value."""
    return torch.searchsorted(ends, value, right=True).clamp_(max=ends.shape[1] - 1)
