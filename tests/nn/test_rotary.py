"""Rotations against complex numbers, and the property that they are for."""

from __future__ import annotations

import pytest
import torch

from xlm_core.nn.rotary import rotary, rotate


def twin(x, positions, dims, base):
    """Multiply the pairs (i, i + dims/2), as complex numbers, by exp(i * position * base**(-2i/dims)), in float64."""
    x, half = x.double(), dims // 2
    pairs = torch.complex(x[..., :half], x[..., half:dims])
    frequency = base ** (-2 * torch.arange(half, dtype=torch.float64) / dims)
    turned = pairs * torch.polar(torch.tensor(1.0, dtype=torch.float64), positions.double()[..., None] * frequency)
    return torch.cat([turned.real, turned.imag, x[..., dims:]], dim=-1)


@pytest.mark.parametrize("dims", [2, 6, 16])
@pytest.mark.parametrize("base", [10_000.0, 100.0])
def test_rotation_is_a_complex_product(dims, base):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 9, 16)
    positions = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 0, 0, 0, 1, 2, 30, 500, 2000]])
    found = rotate(x, rotary(positions, dims, base))
    assert torch.allclose(found.double(), twin(x, positions[:, None], dims, base), atol=1e-3)
    near = slice(0, 6)
    assert torch.allclose(found[:, :, near].double(), twin(x, positions[:, None], dims, base)[:, :, near], atol=1e-5)


def test_one_row_of_positions_serves_all():
    x = torch.randn(4, 2, 5, 8)
    positions = torch.arange(5)
    assert torch.equal(rotate(x, rotary(positions, 8)), rotate(x, rotary(positions.expand(4, -1), 8)))


def test_scores_depend_on_the_distance_alone():
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64)

    def score(i, j):
        return float((rotate(q, rotary(torch.tensor([i]), 8)) * rotate(k, rotary(torch.tensor([j]), 8))).sum())

    for i, j in [(0, 0), (3, 1), (1, 3), (10, 2)]:
        assert score(i, j) == pytest.approx(score(i + 57, j + 57), abs=2e-5)
    assert abs(score(3, 1) - score(1, 3)) > 1e-3


def test_rotation_keeps_lengths_and_dtype():
    x = torch.randn(1, 1, 50, 8)
    turned = rotate(x, rotary(torch.arange(50) * 1000, 6))
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-4)
    assert torch.equal(turned[..., 6:], x[..., 6:])
    assert rotate(x.bfloat16(), rotary(torch.arange(50), 6)).dtype == torch.bfloat16


def test_a_network_in_bfloat16_has_exact_angles():
    """Position 1001 in bfloat16 would be 1000, and its angle with it."""
    x = torch.ones(1, 1, 1, 2)
    found = rotate(x.bfloat16(), rotary(torch.tensor([1001]), 2)).float()
    assert torch.allclose(found, twin(x, torch.tensor([[[1001]]]), 2, 1.0).float(), atol=2e-2)
