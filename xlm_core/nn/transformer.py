"""The rotary transformer that arlm, ilm and mlm share: pre-norm blocks, untied vocabulary head."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xlm_core.config import TransformerConfig
from xlm_core.errors import ConfigError
from xlm_core.nn.attention import AttentionMask, KeyValueCache, SelfAttention
from xlm_core.nn.convolution import EmbeddingCache, EmbeddingConvolution
from xlm_core.nn.rotary import Rotary, rotary

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
}


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x)."""

    def __init__(self, cfg: TransformerConfig) -> None:
        super().__init__()
        hidden = cfg.hidden or 4 * cfg.dim
        self.attention_norm = nn.LayerNorm(cfg.dim)
        self.attention = SelfAttention(cfg.dim, cfg.heads, dropout=cfg.dropout)
        self.mlp_norm = nn.LayerNorm(cfg.dim)
        self.mlp = nn.Sequential(nn.Linear(cfg.dim, hidden), ACTIVATIONS[cfg.activation](), nn.Linear(hidden, cfg.dim))
        self.dropout = nn.Dropout(cfg.dropout)

    def forward(
        self, x_BLD: Tensor, angles: Rotary | None, mask: AttentionMask | None, cache: KeyValueCache | None = None
    ) -> Tensor:
        x_BLD = x_BLD + self.dropout(self.attention(self.attention_norm(x_BLD), angles, mask, cache))
        y_BLD: Tensor = x_BLD + self.dropout(self.mlp(self.mlp_norm(x_BLD)))
        return y_BLD


@dataclass
class Caches:
    """What a transformer keeps of the columns seen so far."""

    layers: list[KeyValueCache]
    embeddings: EmbeddingCache | None = None

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows ((N,) int64), in this order."""
        for cache in self.layers:
            cache.keep(rows)
        if self.embeddings is not None:
            self.embeddings.keep(rows)


class RotaryTransformer(nn.Module):
    """Token ids to hidden states, and a separate projection of hidden states to the vocabulary.

    The two are apart so that losses and decoders project only the rows that they need.

    Args:
        cfg: sizes.
        vocab_size: V.
        pad_id: its embedding stays zero.
    """

    def __init__(self, cfg: TransformerConfig, vocab_size: int, pad_id: int) -> None:
        super().__init__()
        _check(cfg)
        self.rotary_dims = min(cfg.rotary_dims, cfg.dim // cfg.heads)
        self.embedding = nn.Embedding(vocab_size, cfg.dim, padding_idx=pad_id)
        self.convolution = EmbeddingConvolution(cfg.dim, cfg.conv_reach) if cfg.conv_reach else None
        self.places = nn.Embedding(cfg.learned_positions, cfg.dim) if cfg.learned_positions else None
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.layers))
        self.final_norm = nn.LayerNorm(cfg.dim) if cfg.final_norm else nn.Identity()
        self.head = nn.Linear(cfg.dim, vocab_size, bias=False)
        initialise(self, residual_layers=2 * cfg.layers, std=cfg.init_std)

    def forward(
        self,
        ids_BL: Tensor,
        positions: Tensor | None = None,
        mask: AttentionMask | None = None,
        caches: Caches | None = None,
    ) -> Tensor:
        """Hidden states after the final norm.

        Args:
            ids_BL: (B, L) int64.
            positions: (B, L) int64; 0 .. L-1 when None. Learned positions end at `cfg.learned_positions` - 1.
            mask: which tokens each token sees; all when None.
            caches: from `new_caches`; the new columns are appended to them.

        Returns:
            (B, L, D) float.

        Raises:
            ConfigError: the rows are longer than there are learned positions.
        """
        if positions is None:
            positions = self._places(ids_BL)
        angles = rotary(positions, self.rotary_dims) if self.rotary_dims else None
        x_BLD = self.embedding(ids_BL)
        if self.convolution is not None:
            x_BLD = self.convolution(x_BLD, mask, None if caches is None else caches.embeddings)
        if self.places is not None:
            x_BLD = x_BLD + self.places(positions)
        for layer, block in enumerate(self.blocks):
            x_BLD = block(x_BLD, angles, mask, None if caches is None else caches.layers[layer])
        y_BLD: Tensor = self.final_norm(x_BLD)
        return y_BLD

    def _places(self, ids_BL: Tensor) -> Tensor:
        length = ids_BL.shape[1]
        if self.places is not None and length > self.places.num_embeddings:
            what = f"rows of {length} tokens need as many learned positions, and there are {self.places.num_embeddings}"
            raise ConfigError(what, "Raise model.learned_positions, or lower data.length or predictor.max_new_tokens.")
        return torch.arange(length, device=ids_BL.device)

    def new_caches(self, rows: int, columns: int) -> Caches:
        """Empty caches for `columns` columns, in the dtype that attention computes in."""
        weight = self.head.weight
        dtype = torch.get_autocast_dtype(weight.device.type) if torch.is_autocast_enabled(weight.device.type) else weight.dtype
        layers: list[SelfAttention] = [block.attention for block in self.blocks]  # type: ignore[misc]
        return Caches(
            [KeyValueCache(rows, a.kv_heads, columns, a.head_dim, device=weight.device, dtype=dtype) for a in layers],
            None if self.convolution is None else EmbeddingCache(self.convolution.reach),
        )


def initialise(model: nn.Module, residual_layers: int, std: float) -> None:
    """Draw every layer's weights on their own (Radford et al., 2019): normal with this deviation, and the projections that add
    to the residual stream divided by sqrt(residual_layers)."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            adds = name.endswith(("attention.out", "mlp.2"))
            nn.init.normal_(module.weight, std=std / math.sqrt(residual_layers) if adds else std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=std)
            if module.padding_idx is not None:
                with torch.no_grad():
                    module.weight[module.padding_idx].zero_()


def _check(cfg: TransformerConfig) -> None:
    if cfg.dim % cfg.heads or (cfg.dim // cfg.heads) % 2:
        raise ConfigError(
            f"model.dim={cfg.dim} does not split into {cfg.heads} heads of even size", "Change model.dim or model.heads."
        )
    if cfg.rotary_dims % 2:
        raise ConfigError(f"model.rotary_dims={cfg.rotary_dims} is odd", "Rotation turns pairs of dimensions: make it even.")
    if cfg.activation not in ACTIVATIONS:
        raise ConfigError(f"model.activation={cfg.activation!r} is unknown", f"One of {', '.join(ACTIVATIONS)}.")
