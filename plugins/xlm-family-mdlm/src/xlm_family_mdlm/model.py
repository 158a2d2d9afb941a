"""The denoising network: a diffusion transformer that predicts the clean token of every masked column."""

from __future__ import annotations

import torch
from torch import Tensor

from xlm_core.canvas import Specials
from xlm_core.nn.attention import AttentionMask
from xlm_core.nn.dit import DiT
from xlm_family_mdlm.config import ModelConfig

LEAST_VISIBLE = 1e-3
"""The total noise -log(1 - c) that conditions the network is that of (1 - LEAST_VISIBLE) c, as published: finite at c = 1."""


class MdlmModel(DiT):
    """DiT over partly masked canvases.

    Args:
        cfg: sizes, and whether the noise level is read.
        vocab_size: V.
        specials: ids of the special tokens.
    """

    def __init__(self, cfg: ModelConfig, vocab_size: int, specials: Specials) -> None:
        super().__init__(cfg, vocab_size)
        self.time_conditioning = cfg.time_conditioning
        self.specials = specials

    def hidden(
        self,
        input_ids: Tensor,
        valid: Tensor | None = None,
        noise: Tensor | None = None,
        *,
        segment_ids: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """(B, L, D): states of all columns.

        Args:
            input_ids: (B, L) int64, the mask id at noised columns.
            valid: (B, L) bool, the columns that may be seen; see `readable`.
            noise: (B,) float in [0, 1], the probability c(t) that a token is masked. Not read without time conditioning.
            segment_ids: (B, L) int64; columns see their own segment only.
            positions: (B, L) int64; 0 .. L-1 when None.
        """
        condition = None
        if self.time_conditioning:
            if noise is None:
                raise ValueError("a network with time conditioning needs the noise level")
            condition = -torch.log1p(noise * (LEAST_VISIBLE - 1))
        return DiT.forward(self, input_ids, condition, positions, AttentionMask(valid=valid, segments=segment_ids))

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        valid: Tensor | None = None,
        noise: Tensor | None = None,
        segment_ids: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """log p(clean token) of each column, (B, L, V) float, at least float32: the SUBS parameterisation of arXiv 2406.07524.

        The mask is impossible at every column, and a visible column keeps its token. Arguments as in `hidden`.
        """
        logits_BLV = self.head(self.hidden(input_ids, valid, noise, segment_ids=segment_ids, positions=positions))
        logits_BLV = logits_BLV.to(torch.promote_types(logits_BLV.dtype, torch.float32))
        logits_BLV[..., self.specials.mask] = -torch.inf
        kept_BLV = torch.full_like(logits_BLV, -torch.inf).scatter_(-1, input_ids[..., None], 0.0)
        return torch.where((input_ids == self.specials.mask)[..., None], logits_BLV.log_softmax(-1), kept_BLV)


def readable(ids: Tensor, start: Tensor, specials: Specials) -> Tensor:
    """(B, L) bool: the columns before a row's end, as far as the end is known.

    A row ends with its first visible EOS, or before its first visible padding. What follows is padding with certainty, so it is
    neither read nor predicted, masked or not: the loss of such a column is 0 and a decoder need not visit it.

    Args:
        ids: (B, L) int64, a canvas with or without masks.
        start: (B,) int64, the first column in which the row can end: an EOS in a prompt ends nothing.
    """
    may_end = torch.arange(ids.shape[1], device=ids.device) >= start[:, None]
    eos = (ids == specials.eos) & may_end
    ends = (eos | ((ids == specials.pad) & may_end)).long().cumsum(-1)
    return (ends == 0) | (eos & (ends == 1))
