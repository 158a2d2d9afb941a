"""The causal network: the shared rotary transformer in which no column sees the columns after it."""

from __future__ import annotations

from torch import Tensor

from xlm_core.nn.attention import AttentionMask
from xlm_core.nn.transformer import Caches, RotaryTransformer


class ArlmModel(RotaryTransformer):
    """RotaryTransformer with causal attention. Causality is the network's, not the batch's: no mask can take it away.

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
        caches: Caches | None = None,
    ) -> Tensor:
        """(B, L, D): states of columns, each from which the next token is predicted.

        Args:
            input_ids: (B, L) int64.
            attention_mask: (B, K) bool, False on columns that nobody may see; K counts cached columns too. Only padding on the
                left needs it.
            segment_ids: (B, L) int64; columns see their own segment only.
            positions: (B, L) int64; 0 .. L-1 when None.
            caches: from `new_caches`: earlier columns, which these come behind.
        """
        mask = AttentionMask(causal=True, valid=attention_mask, segments=segment_ids)
        return RotaryTransformer.forward(self, input_ids, positions, mask, caches)

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        segment_ids: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, L, V) of the token after each column; arguments as in `hidden`."""
        hidden_BLD = self.hidden(input_ids, attention_mask=attention_mask, segment_ids=segment_ids, positions=positions)
        logits_BLV: Tensor = self.head(hidden_BLD)
        return logits_BLV
