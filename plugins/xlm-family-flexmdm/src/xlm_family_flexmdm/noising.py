"""The interpolant between nothing and a text (arXiv 2509.01025, section 4): tokens are absent, then masked, then themselves.

Each free token has an insertion time with law a_ins, and an unmasking time with law a_unm given that it is later. Everything
here stays on the device and is linear in the number of columns.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from xlm_core.canvas import Specials
from xlm_family_flexmdm.schedules import Schedule


class Fate(NamedTuple):
    """What noise does to each column of a clean canvas."""

    absent: Tensor
    """(B, L) bool."""
    masked: Tensor
    """(B, L) bool."""


class Noised(NamedTuple):
    """Canvases at a time. Absent tokens are gone; what is left of a row is contiguous from column 0."""

    ids: Tensor
    """(B, L) int64."""
    mask: Tensor
    """(B, L) bool: real tokens, masks included."""
    masked: Tensor
    """(B, L) bool: columns with a mask."""
    clean: Tensor
    """(B, L) int64: the token that each column is in the end."""
    open: Tensor
    """(B, L) bool: columns whose left gap may receive tokens."""
    gaps: Tensor
    """(B, L) int64: how many tokens are absent left of each column, since the one before it."""


def fates(insertion: Schedule, unmasking: Schedule, time: Tensor, free: Tensor, arrival: Tensor, reveal: Tensor) -> Fate:
    """Where each free token is in its life.

    Args:
        time: (B,) float64 in [0, 1].
        free: (B, L) bool.
        arrival: (B, L) float64 uniform on (0, 1): a_ins at the token's insertion time.
        reveal: (B, L) float64 uniform on (0, 1): at its unmasking time, 1 - a_unm is this share of what it was at insertion.
    """
    now = time[:, None]
    absent = arrival > insertion.value(now)
    left = reveal * unmasking.remaining(insertion.inverse(arrival))
    return Fate(free & absent, free & ~absent & (left < unmasking.remaining(now)))


def apply(ids: Tensor, mask: Tensor, open_gaps: Tensor, fate: Fate, specials: Specials, width: int | None = None) -> Noised:
    """Take absent tokens out, hide masked ones, and count what is missing where.

    Args:
        ids, mask: (B, L) clean canvases, contiguous from column 0.
        open_gaps: (B, L) bool, of the clean columns.
        width: columns of the result; L when None.
    """
    column, real = compact(mask & ~fate.absent, width)
    before = torch.nn.functional.pad(column, (1, -1), value=-1)
    masked = fate.masked.gather(1, column) & real
    clean = ids.gather(1, column).masked_fill(~real, specials.pad)
    gaps = (column - before - 1).masked_fill(~real, 0)
    return Noised(clean.masked_fill(masked, specials.mask), real, masked, clean, open_gaps.gather(1, column) & real, gaps)


def compact(keep: Tensor, width: int | None = None) -> tuple[Tensor, Tensor]:
    """The kept columns of each row, in order, in time linear in L.

    Args:
        keep: (B, L) bool.
        width: W, columns of the result, at least the most that a row keeps; L when None.

    Returns:
        (B, W) int64 columns, 0 behind the last one; (B, W) bool, True up to it.
    """
    length = keep.shape[1]
    width = length if width is None else width
    place = torch.where(keep, keep.long().cumsum(-1) - 1, width)
    columns = torch.arange(length, device=keep.device).expand_as(place)
    kept = columns.new_zeros(len(keep), width + 1).scatter_(1, place, columns)[:, :width]
    return kept, torch.arange(width, device=keep.device) < keep.sum(-1)[:, None]
