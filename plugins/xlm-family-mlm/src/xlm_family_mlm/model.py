"""The bidirectional network: the shared rotary transformer in which every real column sees every other."""

from __future__ import annotations

from torch import Tensor

from xlm_core.nn.attention import AttentionMask
from xlm_core.nn.transformer import RotaryTransformer


class MlmModel(RotaryTransformer):
    """RotaryTransformer, bidirectional. It is told neither a time nor how many masks there are.

    Args:
        cfg: sizes.
        vocab_size: V.
        pad_id: padding id.
    """

    def hidden(
        self,
        input_ids: Tensor,
        *,
        attention_mask: Tensor | None = None,
        segment_ids: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """(B, L, D): states of columns, each from which its own token is predicted.

        Args:
            input_ids: (B, L) int64.
            attention_mask: (B, L) bool, False on padding, which nothing may see.
            segment_ids: (B, L) int64; columns see their own segment only. It says for itself where padding is: that has a
                segment of its own.
            positions: (B, L) int64; 0 .. L-1 when None.
        """
        valid = attention_mask if segment_ids is None else None
        return RotaryTransformer.forward(self, input_ids, positions, AttentionMask(valid=valid, segments=segment_ids))

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        segment_ids: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, L, V) of the token of each column; arguments as in `hidden`."""
        hidden_BLD = self.hidden(input_ids, attention_mask=attention_mask, segment_ids=segment_ids, positions=positions)
        logits_BLV: Tensor = self.head(hidden_BLD)
        return logits_BLV
