"""Noise against its probabilities, and compaction against plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad
from xlm_family_flexmdm import noising
from xlm_family_flexmdm.config import LossConfig, ScheduleConfig
from xlm_family_flexmdm.loss import FlexmdmLoss
from xlm_family_flexmdm.schedules import schedule

from xlm_core.sampling.random import RowRandom

A, B, C, D, MASK, PAD, EOS = 7, 8, 9, 10, 2, 0, 3


def _apply(specials, ids, absent, masked, width=None):
    ids, absent, masked = (torch.tensor([row]) for row in (ids, absent, masked))
    fate = noising.Fate(absent.bool(), masked.bool())
    return noising.apply(ids, ids != PAD, ids != PAD, fate, specials, width)


def test_the_published_example(specials):
    """b and d absent, c masked."""
    noised = _apply(specials, [A, B, C, D, EOS, PAD], [0, 1, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0])
    assert noised.ids.tolist() == [[A, MASK, EOS, PAD, PAD, PAD]]
    assert noised.gaps.tolist() == [[0, 1, 1, 0, 0, 0]]
    assert noised.clean.tolist() == [[A, C, EOS, PAD, PAD, PAD]]
    assert noised.masked.tolist() == [[False, True, False, False, False, False]]
    assert noised.mask.tolist() == [[True] * 3 + [False] * 3]


@pytest.mark.parametrize("seed", range(5))
def test_compaction_is_that_of_plain_python(specials, seed):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(7, 13, (40, 9), generator=generator)
    lengths = torch.randint(1, 10, (40, 1), generator=generator)
    mask = torch.arange(9) < lengths
    free = (torch.rand(40, 9, generator=generator) < 0.7) & mask
    state = torch.randint(0, 3, (40, 9), generator=generator)
    fate = noising.Fate(free & (state == 0), free & (state == 1))
    opens = torch.rand(40, 9, generator=generator) < 0.5
    noised = noising.apply(ids, mask, opens, fate, specials)
    for row in range(40):
        kept = [c for c in range(int(lengths[row])) if not fate.absent[row, c]]
        size = len(kept)
        assert noised.mask[row].tolist() == [True] * size + [False] * (9 - size)
        assert noised.ids[row, :size].tolist() == [MASK if fate.masked[row, c] else int(ids[row, c]) for c in kept]
        assert noised.clean[row, :size].tolist() == ids[row, kept].tolist()
        assert noised.open[row, :size].tolist() == opens[row, kept].tolist()
        assert noised.gaps[row, :size].tolist() == [c - b - 1 for b, c in zip([-1, *kept], kept, strict=False)]
        assert (noised.ids[row, size:] == PAD).all()
        assert not (noised.open | noised.masked)[row, size:].any()
        last = kept[-1] + 1 if kept else 0
        assert int(noised.gaps[row].sum()) + size == last, "what is missing and what is left make the clean row"


def test_missing_and_surviving_tokens_make_the_clean_length(network, batch_of):
    batch = batch_of("lm", input_ids=[[A, B, C, D, A, B][: n % 7] for n in range(200)])
    noised = FlexmdmLoss(LossConfig(), network).noised(batch, torch.linspace(0, 1, 200, dtype=torch.float64), seed=1)
    assert torch.equal(noised.gaps.sum(-1) + noised.mask.sum(-1), batch["attention_mask"].sum(-1))
    assert not (noised.gaps * ~noised.open).any(), "tokens are missing in open gaps only"
    assert (noised.ids[torch.arange(200), noised.mask.sum(-1) - 1] == EOS).all()


def _shares(insertion, unmasking, time, count=200_000):
    random = RowRandom(0, torch.arange(1))
    free = torch.ones(1, count, dtype=torch.bool)
    fate = noising.fates(
        insertion,
        unmasking,
        torch.tensor([time], dtype=torch.float64),
        free,
        random.uniform(0, (count,)),
        random.uniform(1, (count,)),
    )
    assert not (fate.absent & fate.masked).any()
    return float(fate.absent.double().mean()), float(fate.masked.double().mean()), count**-0.5


@pytest.mark.parametrize("time", [0.02, 0.3, 0.632, 0.95])
def test_linear_noise_has_its_closed_form(time):
    linear = schedule(ScheduleConfig())
    absent, masked, scale = _shares(linear, linear, time)
    assert absent == pytest.approx(1 - time, abs=2 * scale)
    assert masked == pytest.approx(-(1 - time) * math.log(1 - time), abs=2 * scale)


@pytest.mark.parametrize("names", [("sin", "linear"), ("linear", "polynomial"), ("geometric", "cosine"), ("cosine", "sin")])
def test_other_noise_is_the_integral_of_its_definition(names):
    """P(masked at t) = integral over insertion times of a_ins' times the chance that unmasking, given to be later, is not
    over."""
    insertion, unmasking = (schedule(ScheduleConfig(name)) for name in names)
    time = 0.6

    def density(x):
        t, now = (torch.tensor(v, dtype=torch.float64) for v in (x, time))
        return float(insertion.derivative(t) * unmasking.remaining(now) / unmasking.remaining(t))

    absent, masked, scale = _shares(insertion, unmasking, time)
    assert absent == pytest.approx(float(insertion.remaining(torch.tensor(time))), abs=2 * scale)
    assert masked == pytest.approx(quad(density, 0, time)[0], abs=2 * scale)


def test_time_begins_with_nothing_and_ends_with_everything(network, batch_of):
    batch = batch_of("lm", input_ids=[[A, B, C, D]] * 50)
    loss = FlexmdmLoss(LossConfig(), network)
    begin = loss.noised(batch, torch.zeros(50, dtype=torch.float64), seed=0)
    end = loss.noised(batch, torch.ones(50, dtype=torch.float64), seed=0)
    assert (begin.mask.sum(-1) == 2).all()
    assert torch.equal(end.ids, batch["input_ids"])
