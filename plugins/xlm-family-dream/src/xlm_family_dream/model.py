"""The network: Qwen2 (arXiv 2407.10671), with attention in both directions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xlm_core.errors import ConfigError
from xlm_core.nn.attention import AttentionMask, KeyValueCache, SelfAttention
from xlm_core.nn.rotary import Rotary, rotary
from xlm_family_dream.config import ModelConfig

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class SwiGlu(nn.Module):
    """down(silu(gate x) * up x) (Shazeer, 2020, arXiv 2002.05202)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, hidden, bias=False)
        self.up = nn.Linear(dim, hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return y


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x)."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(cfg.dim, eps=cfg.norm_eps)
        self.attention = SelfAttention(cfg.dim, cfg.heads, kv_heads=cfg.kv_heads, bias=True)
        self.mlp_norm = nn.RMSNorm(cfg.dim, eps=cfg.norm_eps)
        self.mlp = SwiGlu(cfg.dim, cfg.hidden)

    def forward(self, x_BLD: Tensor, angles: Rotary, mask: AttentionMask, cache: KeyValueCache | None = None) -> Tensor:
        x_BLD = x_BLD + self.attention(self.attention_norm(x_BLD), angles, mask, cache)
        y_BLD: Tensor = x_BLD + self.mlp(self.mlp_norm(x_BLD))
        return y_BLD


class DreamModel(nn.Module):
    """Token ids to states, from each of which the *next* column's token is predicted: the shift of the network that the
    weights may come from. So the token of column l is read off the state of column l - 1.

    Args:
        cfg: sizes.
        vocab_size: V.

    Raises:
        ConfigError: sizes that do not go together, or an unknown dtype.
    """

    def __init__(self, cfg: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        _check(cfg)
        self.cfg = cfg
        self.head_dim = cfg.dim // cfg.heads
        self.embedding = nn.Embedding(vocab_size, cfg.dim)
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.layers))
        self.final_norm = nn.RMSNorm(cfg.dim, eps=cfg.norm_eps)
        self.head = nn.Linear(cfg.dim, vocab_size, bias=False)
        self.tie()
        self._initialise()
        self.to(DTYPES[cfg.dtype])

    def tie(self) -> None:
        """Make the head the embedding, where the config says so."""
        if self.cfg.tie_head:
            self.head.weight = self.embedding.weight

    def hidden(
        self,
        input_ids: Tensor,
        *,
        attention_mask: Tensor | None = None,
        segment_ids: Tensor | None = None,
        positions: Tensor | None = None,
        caches: Sequence[KeyValueCache] | None = None,
    ) -> Tensor:
        """(B, Q, D): states of columns.

        Args:
            input_ids: (B, Q) int64.
            attention_mask: (B, K) bool, False on padding, which nothing may see. K is Q without caches.
            segment_ids: (B, Q) int64; columns see their own segment only. It says for itself where padding is: that has a
                segment of its own.
            positions: (B, Q) int64; 0 .. Q-1 when None.
            caches: one a layer: what the columns see beside each other.
        """
        if positions is None:
            positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        angles = rotary(positions, self.head_dim, self.cfg.rope_theta)
        valid = attention_mask if segment_ids is None else None
        mask = AttentionMask(causal=self.cfg.causal, valid=valid, segments=segment_ids)
        x_BQD = self.embedding(input_ids)
        for layer, block in enumerate(self.blocks):
            x_BQD = block(x_BQD, angles, mask, None if caches is None else caches[layer])
        y_BQD: Tensor = self.final_norm(x_BQD)
        return y_BQD

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        segment_ids: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, L, V) of the token of the column behind each; arguments as in `hidden`."""
        hidden_BLD = self.hidden(input_ids, attention_mask=attention_mask, segment_ids=segment_ids, positions=positions)
        logits_BLV: Tensor = self.head(hidden_BLD)
        return logits_BLV

    def _initialise(self) -> None:
        """Normal with deviation 0.02; what adds to the residual stream divided by sqrt(2 layers) (Radford et al., 2019)."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                adds = name.endswith(("attention.out", "mlp.down"))
                nn.init.normal_(module.weight, std=0.02 / math.sqrt(2 * self.cfg.layers) if adds else 0.02)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)


def _check(cfg: ModelConfig) -> None:
    if cfg.dim % cfg.heads or (cfg.dim // cfg.heads) % 2:
        what = f"model.dim={cfg.dim} does not split into {cfg.heads} heads of even size"
        raise ConfigError(what, "Change model.dim or model.heads.")
    if cfg.kv_heads < 1 or cfg.heads % cfg.kv_heads:
        what = f"model.kv_heads={cfg.kv_heads} does not divide model.heads={cfg.heads}"
        raise ConfigError(what, "Every key and value head serves equally many query heads.")
    if cfg.dtype not in DTYPES:
        raise ConfigError(f"model.dtype={cfg.dtype!r} is unknown", f"One of {', '.join(DTYPES)}.")
