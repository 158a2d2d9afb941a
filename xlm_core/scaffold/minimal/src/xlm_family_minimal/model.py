"""The network: core's rotary transformer, in which every real column sees every other."""

from __future__ import annotations

from torch import Tensor

from xlm_core.nn.attention import AttentionMask
from xlm_core.nn.transformer import RotaryTransformer


class MinimalModel(RotaryTransformer):
    """States of the columns; `head` makes logits of them. They are apart so that only the columns that are read are projected.

    Args:
        cfg: sizes.
        vocab_size: V.
        pad_id: padding id.
    """

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:  # type: ignore[override]
        """(B, L, D): states of the columns, from each of which its own token is predicted.

        Args:
            input_ids: (B, L) int64.
            attention_mask: (B, L) bool, False on padding, which nothing may see.
        """
        return super().forward(input_ids, mask=AttentionMask(valid=attention_mask))
