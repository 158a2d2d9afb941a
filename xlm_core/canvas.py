"""Where special tokens go and what counts as padding: one object that collators, losses, predictors and metrics share.

A canvas is a batch of rows of different lengths in one rectangle. Real tokens are contiguous; the mask says which they are.
Lengths in configs count content; special tokens come on top, so a row that fits never loses its EOS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from xlm_core.errors import ConfigError

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer


@dataclass(frozen=True)
class Specials:
    """Ids of the special tokens. Every tokenizer that core builds has all of them, all different from each other."""

    pad: int
    cls: int
    mask: int
    eos: int
    bos: int
    sep: int
    unk: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Specials:
        names = cls.__dataclass_fields__
        ids = {name: getattr(tokenizer, f"{name}_token_id") for name in names}
        lacking = [name for name, value in ids.items() if value is None]
        if lacking:
            raise ConfigError(f"the tokenizer has no {', '.join(lacking)} token", "Build it with xlm_core.data.tokenizers.")
        return cls(**ids)

    @property
    def never_generated(self) -> tuple[int, ...]:
        """Ids that no decoder may write into an answer. EOS is a decision of the families that use it."""
        return (self.pad, self.cls, self.mask, self.bos, self.sep, self.unk)


@dataclass(frozen=True)
class Canvas:
    """Rows padded to one width."""

    ids: Tensor
    """(B, L) int64."""
    mask: Tensor
    """(B, L) bool, True on real tokens."""


def pad(
    rows: Sequence[Sequence[int]], pad_id: int, *, width: int | None = None, side: Literal["left", "right"] = "right"
) -> Canvas:
    """Pad rows to `width`, or to the longest of them.

    Args:
        rows: B sequences of ids (lists or integer arrays).
        pad_id: written where there is no token.
        width: columns of the result.
        side: where the padding goes.

    Raises:
        ConfigError: a row is longer than `width`. Nothing is cut silently: cutting is the data config's decision.
    """
    lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
    longest = int(lengths.max(initial=0))
    columns = longest if width is None else width
    if longest > columns:
        raise ConfigError(
            f"a row of {longest} tokens does not fit a canvas of {columns}", "Raise data.length or data.prompt_length."
        )
    column = np.arange(columns)
    mask = column < lengths[:, None] if side == "right" else column >= columns - lengths[:, None]
    ids = np.full(mask.shape, pad_id, np.int64)
    if longest:
        ids[mask] = np.concatenate([np.asarray(row, np.int64) for row in rows])
    return Canvas(torch.from_numpy(ids), torch.from_numpy(mask))


def positions(mask: Tensor) -> Tensor:
    """(B, L) int64: 0 at the first real token of each row, counting real tokens only; 0 on left padding.

    Attention with these positions does not see how a row is padded.
    """
    return (mask.long().cumsum(-1) - 1).clamp_(min=0)


def until(ids: Tensor, stop: int, pad_id: int) -> Tensor:
    """Replace the first `stop` of each row and all that follows it by padding.

    Args:
        ids: (B, T) int64.
    """
    ended = (ids == stop).long().cumsum(-1) > 0
    return ids.masked_fill(ended, pad_id)
