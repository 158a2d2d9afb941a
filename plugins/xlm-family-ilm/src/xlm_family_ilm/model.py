"""The insertion network: hidden states whose vocabulary logits say what is missing right of each token, and a head on CLS."""

from __future__ import annotations

from torch import Tensor, nn

from xlm_core.errors import ConfigError
from xlm_core.nn.attention import AttentionMask
from xlm_core.nn.transformer import RotaryTransformer, initialise
from xlm_family_ilm.config import ModelConfig

STOP = 0
"""Class 0 of the outcome head: nothing is missing."""


class OutcomeHead(nn.Module):
    """Residual MLP, then classes: `stop` has (stop, something is missing); `length` has one a number of missing tokens."""

    def __init__(self, dim: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.Tanh(), nn.Linear(2 * dim, dim), nn.Dropout(dropout)
        )
        self.classes = nn.Linear(dim, classes, bias=False)

    def forward(self, x_BD: Tensor) -> Tensor:
        logits_BC: Tensor = self.classes(x_BD + self.mlp(x_BD))
        return logits_BC


class IlmModel(RotaryTransformer):
    """RotaryTransformer, bidirectional, with an outcome head.

    Args:
        cfg: sizes and the kind of head.
        vocab_size: V.
        pad_id: padding id.
    """

    def __init__(self, cfg: ModelConfig, vocab_size: int, pad_id: int) -> None:
        super().__init__(cfg, vocab_size, pad_id)
        if cfg.outcome not in ("stop", "length"):
            raise ConfigError(f"model.outcome={cfg.outcome!r} is unknown", "One of stop, length.")
        self.outcome_kind = cfg.outcome
        self.outcome = OutcomeHead(cfg.dim, 2 if cfg.outcome == "stop" else cfg.max_missing + 1, cfg.dropout)
        initialise(self.outcome, residual_layers=1, std=cfg.init_std)

    def hidden(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, L, D): states of a canvas, whose column 0 is CLS.

        Args:
            input_ids: (B, L) int64, padded on the right.
            attention_mask: (B, L) bool.
        """
        return RotaryTransformer.forward(self, input_ids, mask=AttentionMask(valid=attention_mask))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Insertion logits (B, L, V) of the gap right of each column, and outcome logits (B, C)."""
        hidden_BLD = self.hidden(input_ids, attention_mask)
        return self.head(hidden_BLD), self.outcome(hidden_BLD[:, 0])
