"""The schedules against their formulas and against automatic differentiation."""

from __future__ import annotations

import math

import pytest
import torch
from xlm_family_flexmdm.config import ScheduleConfig
from xlm_family_flexmdm.schedules import schedule

from xlm_core.errors import ConfigError

TIMES = torch.linspace(0, 1, 101, dtype=torch.float64)
FORMULAS = {
    "linear": lambda t: t,
    "sin": lambda t: (math.pi * t / 2).sin(),
    "cosine": lambda t: 1 - (math.pi * t / 2).cos(),
    "polynomial": lambda t: t**1.7,
    "geometric": lambda t: ((-(5.0 ** (1 - t) * 0.02**t)).exp() - math.exp(-5)) / (math.exp(-0.02) - math.exp(-5)),
}


@pytest.fixture(params=list(FORMULAS))
def named(request):
    return schedule(ScheduleConfig(request.param, power=1.7, first=5.0, last=0.02)), FORMULAS[request.param]


def test_values_are_those_of_the_formula(named):
    made, formula = named
    torch.testing.assert_close(made.value(TIMES), formula(TIMES), rtol=0, atol=1e-14)
    torch.testing.assert_close(made.remaining(TIMES), 1 - formula(TIMES), rtol=0, atol=1e-14)


def test_they_begin_at_nothing_and_end_with_everything(named):
    made, _ = named
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(made.value(ends), ends, rtol=0, atol=1e-14)
    assert made.value(ends)[0] == 0
    assert made.remaining(ends)[1] == 0
    assert (made.value(TIMES).diff() > 0).all()


def test_derivatives_and_hazards_are_exact(named):
    made, formula = named
    t = TIMES[1:-1].clone().requires_grad_()
    (slope,) = torch.autograd.grad(formula(t).sum(), t)
    torch.testing.assert_close(made.derivative(t.detach()), slope)
    torch.testing.assert_close(made.hazard(t.detach()), slope / (1 - formula(t.detach())))


def test_inverses_invert(named):
    made, _ = named
    torch.testing.assert_close(made.inverse(made.value(TIMES)), TIMES, rtol=0, atol=1e-9)
    torch.testing.assert_close(made.value(made.inverse(TIMES)), TIMES, rtol=0, atol=1e-12)


def test_what_remains_is_exact_close_to_the_end(named):
    """The limit of hazard * (1 - t) is the order of the zero of 1 - a at t = 1: numerically 1 - value would be noise there."""
    made, formula = named
    near = 1 - torch.tensor([1e-6, 1e-9], dtype=torch.float64)
    order = 2.0 if formula is FORMULAS["sin"] else 1.0
    torch.testing.assert_close(made.hazard(near) * (1 - near), torch.full_like(near, order), rtol=1e-4, atol=0)


def test_steps_are_conditional_probabilities(named):
    """What is over after two steps is over after one that spans both; the last step ends everything."""
    made, formula = named
    t, s = TIMES[:-2], TIMES[1:-1]
    torch.testing.assert_close(made.step(t, s), (formula(s) - formula(t)) / (1 - formula(t)), rtol=0, atol=1e-10)
    whole = 1 - (1 - made.step(t, s)) * (1 - made.step(s, TIMES[2:]))
    torch.testing.assert_close(whole, made.step(t, TIMES[2:]), rtol=0, atol=1e-12)
    assert (made.step(TIMES[:-1], torch.ones_like(TIMES[:-1])) == 1).all()


def test_the_cosine_hazard_is_a_tangent():
    t = TIMES[:-1]
    torch.testing.assert_close(schedule(ScheduleConfig("cosine")).hazard(t), math.pi / 2 * (math.pi * t / 2).tan())


@pytest.mark.parametrize(
    "cfg, word",
    [
        (ScheduleConfig("quadratic"), "quadratic"),
        (ScheduleConfig("polynomial", power=0.0), "power"),
        (ScheduleConfig("geometric", first=0.1, last=2.0), "first > last"),
        (ScheduleConfig("geometric", first=1e4), "700 > first"),
    ],
)
def test_what_is_no_schedule_is_refused(cfg, word):
    with pytest.raises(ConfigError, match=word):
        schedule(cfg)
