"""Rotary position embedding (Su et al., 2021, arXiv 2104.09864, eq. 34), half-split, on the first dimensions of a head."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Rotary(NamedTuple):
    """Rotation angles of one forward pass, shared by all layers."""

    cos: Tensor
    """(B or 1, 1, L, R/2) float32."""
    sin: Tensor


def rotary(positions: Tensor, dims: int, base: float = 10000.0) -> Rotary:
    """Angles of each position, in float32 whatever the precision of the network: no table, so no longest length.

    Args:
        positions: (L,) or (B, L) int64.
        dims: R, the rotated dimensions of a head; even.
    """
    frequency = base ** (torch.arange(0, dims, 2, device=positions.device, dtype=torch.float32) / -dims)
    angle = positions.to(torch.float32)[..., None] * frequency
    angle = angle.view(-1, 1, *angle.shape[-2:])
    return Rotary(angle.cos(), angle.sin())


def rotate(x_BHLD: Tensor, angles: Rotary) -> Tensor:
    """Rotate queries or keys; the result has the dtype of the input."""
    half = angles.cos.shape[-1]
    first, second, rest = x_BHLD.split((half, half, x_BHLD.shape[-1] - 2 * half), dim=-1)
    turned = (first * angles.cos - second * angles.sin, second * angles.cos + first * angles.sin)
    return torch.cat([*(part.to(x_BHLD.dtype) for part in turned), rest], dim=-1)
