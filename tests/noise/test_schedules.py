"""Noise schedules against automatic differentiation, high precision arithmetic and simulation."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import torch

from xlm_core.errors import ConfigError
from xlm_core.noise.schedules import SCHEDULES, Linear, schedule

ALL = [*SCHEDULES.values(), Linear(0.3), Linear(20.0)]
INSIDE = torch.linspace(0, 1, 1001, dtype=torch.float64)[1:-1]
DEFINITIONS = {
    "log_linear": lambda t: 1 - math.exp(math.log(1 - t)),
    "linear": lambda t: (1 - math.exp(-10 * t)) / (1 - math.exp(-10)),
    "cosine": lambda t: 1 - math.cos(math.pi * t / 2),
}


@pytest.fixture(params=ALL, ids=str)
def noise(request):
    return request.param


@pytest.mark.parametrize("name", SCHEDULES)
def test_definitions(name):
    expected = [DEFINITIONS[name](t) for t in INSIDE.tolist()]
    torch.testing.assert_close(
        schedule(name).masked(INSIDE), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12
    )


def test_nothing_is_masked_at_0_and_everything_at_1(noise):
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert noise.masked(ends).tolist() == pytest.approx([0, 1], abs=1e-15)
    assert noise.alpha(ends).tolist() == pytest.approx([1, 0], abs=1e-15)
    assert noise.reveal(ends[1:], ends[:1]).item() == pytest.approx(1, abs=1e-15)
    assert (noise.masked(INSIDE).diff() > 0).all()


def test_the_parts_agree(noise):
    torch.testing.assert_close(noise.alpha(INSIDE) + noise.masked(INSIDE), torch.ones_like(INSIDE))
    torch.testing.assert_close(noise.masked(noise.inverse(INSIDE)), INSIDE)
    torch.testing.assert_close(noise.weight(INSIDE), -noise.alpha_derivative(INSIDE) / noise.masked(INSIDE))


def test_the_derivative_is_that_of_autograd(noise):
    t = INSIDE.clone().requires_grad_()
    (slope,) = torch.autograd.grad(noise.alpha(t).sum(), t)
    torch.testing.assert_close(noise.alpha_derivative(INSIDE), slope)


def test_the_weight_of_the_published_schedule_is_1_over_t():
    torch.testing.assert_close(schedule("log_linear").weight(INSIDE), 1 / INSIDE)


def test_step_probabilities(noise):
    t, s = INSIDE[1:], INSIDE[:-1]
    torch.testing.assert_close(noise.reveal(t, s), 1 - noise.masked(s) / noise.masked(t), rtol=1e-7, atol=1e-12)


def test_no_digits_are_lost_in_small_steps(noise):
    """A step of 2**-40: the probability is the step times the hazard c'/c at its middle, to second order."""
    t = INSIDE[10:]
    step = 2.0**-40
    middle = noise.weight(t - step / 2) * step
    torch.testing.assert_close(noise.reveal(t, t - step), middle, rtol=1e-9, atol=0)
    exact = [float(Fraction(1, 2**40) / Fraction(x)) for x in t.tolist()]
    torch.testing.assert_close(
        schedule("log_linear").reveal(t, t - step), torch.tensor(exact, dtype=torch.float64), rtol=1e-15, atol=0
    )


def test_simulated_steps_have_the_marginals(noise):
    """Tokens are revealed step by step from all masked; after each step, as many are masked as the schedule says."""
    generator = torch.Generator().manual_seed(0)
    times = torch.tensor([1.0, 0.8, 0.45, 0.2, 0.05], dtype=torch.float64)
    still = torch.ones(200_000, dtype=torch.bool)
    for t, s in itertools.pairwise(times):
        still &= torch.rand(len(still), generator=generator, dtype=torch.float64) >= noise.reveal(t, s)
        expected = noise.masked(s).item()
        deviation = math.sqrt(expected * (1 - expected) / len(still))
        assert still.double().mean().item() == pytest.approx(expected, abs=5 * deviation + 1e-12)


def test_an_unknown_name_is_refused():
    with pytest.raises(ConfigError, match="'quadratic'"):
        schedule("quadratic")
