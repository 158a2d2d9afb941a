"""Attention over masks that are kept as structure (a causal flag, valid keys, segments) until a kernel needs them dense."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xlm_core.nn.rotary import Rotary, rotate


@dataclass(frozen=True)
class AttentionMask:
    """Which keys a query may see: those for which every condition that is set holds."""

    causal: bool = False
    """Only keys at or before the query, counted from the end: the last query sees the last key."""
    valid: Tensor | None = None
    """(B, K) bool, False on padding."""
    segments: Tensor | None = None
    """(B, K) int, of the keys: a query sees keys of its own segment. Documents of a packed row."""

    def dense(self, queries: int, keys: int, device: torch.device) -> Tensor | None:
        """(B or 1, 1, Q or 1, K) bool, or None when every query sees every key.

        Causal queries on padding see their own key: one left of its row would else see nothing, and kernels divide by zero.
        """
        mask = None if self.valid is None else self.valid[:, None, None, :]
        if self.segments is not None:
            same = (self.segments[:, keys - queries :, None] == self.segments[:, None, :])[:, None]
            mask = same if mask is None else mask & same
        if self.causal and queries > 1:
            query = torch.arange(keys - queries, keys, device=device)[:, None]
            before = query >= torch.arange(keys, device=device)
            own = query == torch.arange(keys, device=device)
            mask = before if mask is None else (mask & before) | own
            mask = mask.view(-1, 1, *mask.shape[-2:])
        return mask


class KeyValueCache:
    """Keys and values of the columns seen so far, in buffers of fixed size.

    Args:
        rows, heads, columns, head_dim: the shape of the buffers.
    """

    def __init__(self, rows: int, heads: int, columns: int, head_dim: int, *, device: torch.device, dtype: torch.dtype) -> None:
        self._keys = torch.zeros(rows, heads, columns, head_dim, device=device, dtype=dtype)
        self._values = torch.zeros_like(self._keys)
        self.length = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store (B, H, Q, D) new columns; returns all (B, H, K, D) keys and values so far."""
        start, self.length = self.length, self.length + keys.shape[2]
        self._keys[:, :, start : self.length] = keys
        self._values[:, :, start : self.length] = values
        return self._keys[:, :, : self.length], self._values[:, :, : self.length]

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows ((N,) int64), in this order."""
        self._keys, self._values = self._keys[rows], self._values[rows]


def attention(q: Tensor, k: Tensor, v: Tensor, mask: AttentionMask | None = None, dropout: float = 0.0) -> Tensor:
    """Scaled dot-product attention, softmax(q k^T / sqrt(D)) v.

    Args:
        q: (B, H, Q, D).
        k, v: (B, G, K, D) where G divides H: grouped-query attention when smaller.
        mask: which keys each query sees; all when None.
        dropout: probability of dropping an attention weight.

    Returns:
        (B, H, Q, D).
    """
    mask = mask or AttentionMask()
    if k.shape[1] != q.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    queries, keys = q.shape[2], k.shape[2]
    if _by_hand(q, keys, dropout):
        return _plain(q, k, v, mask.dense(queries, keys, q.device), dropout)
    if mask.causal and mask.valid is None and mask.segments is None and queries == keys:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout)
    allowed = mask.dense(queries, keys, q.device)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout)


def _by_hand(q: Tensor, keys: int, dropout: float) -> bool:
    # On CPU the fused kernel is several times slower than three plain operations in bfloat16 at these lengths,
    # and falls back to a slow path whenever there is dropout.
    return q.device.type == "cpu" and keys <= 512 and (q.dtype == torch.bfloat16 or dropout > 0 or keys <= 64)


def _plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        # Added rather than filled in: nothing to undo on the way back. The number is so large that what it is added to is lost.
        scores = scores + torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(v.dtype)
    weights = F.dropout(weights, dropout, training=dropout > 0)
    return weights @ v


class SelfAttention(nn.Module):
    """Multi-head self-attention with rotary positions.

    Args:
        dim: width of the residual stream.
        heads: query heads.
        kv_heads: key and value heads; `heads` when None.
        bias: biases on queries, keys and values (the output never has one).
        dropout: of attention weights, in training.
    """

    def __init__(self, dim: int, heads: int, *, kv_heads: int | None = None, bias: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads or heads, dim // heads
        self.dropout = dropout
        self.qkv = nn.Linear(dim, (heads + 2 * self.kv_heads) * self.head_dim, bias=bias)
        self.out = nn.Linear(heads * self.head_dim, dim, bias=False)

    def forward(
        self, x_BLD: Tensor, angles: Rotary | None = None, mask: AttentionMask | None = None, cache: KeyValueCache | None = None
    ) -> Tensor:
        qkv = self.qkv(x_BLD).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        qk, v = qkv.split((self.heads + self.kv_heads, self.kv_heads), dim=1)
        q, k = (qk if angles is None else rotate(qk, angles)).split((self.heads, self.kv_heads), dim=1)
        if cache is not None:
            k, v = cache.append(k, v)
        y = attention(q, k, v, mask, self.dropout if self.training else 0.0)
        y_BLD: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return y_BLD
