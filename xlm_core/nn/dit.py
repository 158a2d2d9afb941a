"""Diffusion transformer: pre-norm blocks whose norms and residual gates are set by a condition (AdaLN-zero).

Peebles & Xie, 2022 (arXiv 2212.09748, section 3.2), on token ids as in Sahoo et al., 2024 (arXiv 2406.07524).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xlm_core.config import DiTConfig
from xlm_core.errors import ConfigError
from xlm_core.nn.attention import AttentionMask, SelfAttention
from xlm_core.nn.convolution import EmbeddingConvolution
from xlm_core.nn.rotary import Rotary, rotary
from xlm_core.nn.transformer import ACTIVATIONS, initialise

FREQUENCIES = 256
"""Features of the sinusoidal embedding."""


def sinusoidal(value: Tensor, features: int = FREQUENCIES, base: float = 10000.0) -> Tensor:
    """cos and sin of a number at wavelengths from 2 pi to 2 pi * base, in float32.

    Args:
        value: (B,) float.
        features: even.

    Returns:
        (B, features) float32: all cosines, then all sines.
    """
    half = features // 2
    frequency = base ** (torch.arange(half, device=value.device, dtype=torch.float32) / -half)
    angle = value.to(torch.float32)[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class ConditionEmbedding(nn.Module):
    """A number a row to a conditioning vector: SiLU(MLP(sinusoidal(number))).

    Args:
        dim: C, width of the vector.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(FREQUENCIES, dim), nn.SiLU(), nn.Linear(dim, dim), nn.SiLU())

    def forward(self, condition_B: Tensor) -> Tensor:
        """(B, C)."""
        dtype = next(self.layers.parameters()).dtype
        conditioning_BC: Tensor = self.layers(sinusoidal(condition_B).to(dtype))
        return conditioning_BC


class ModulatedNorm(nn.Module):
    """LayerNorm (gain only), then shift and scale from the conditioning vector, both zero-initialised.

    Args:
        dim: D.
        conditioning_dim: C.
    """

    def __init__(self, dim: int, conditioning_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, bias=False)
        self.modulation = zeroed(nn.Linear(conditioning_dim, 2 * dim))

    def forward(self, x_BLD: Tensor, conditioning_BC: Tensor) -> Tensor:
        shift, scale = self.modulation(conditioning_BC)[:, None].chunk(2, dim=-1)
        return modulate(self.norm(x_BLD), shift, scale)


class DiTBlock(nn.Module):
    """x + gate * attention(y), then x + gate * mlp(z), where y and z are x normalised, scaled and shifted.

    With `residual="normalised"` the first sum is y + gate * attention(y).
    """

    def __init__(self, cfg: DiTConfig) -> None:
        super().__init__()
        hidden = cfg.hidden or 4 * cfg.dim
        self.residual = cfg.residual
        self.attention_norm = nn.LayerNorm(cfg.dim, bias=False)
        self.attention = SelfAttention(cfg.dim, cfg.heads)
        self.mlp_norm = nn.LayerNorm(cfg.dim, bias=False)
        self.mlp = nn.Sequential(nn.Linear(cfg.dim, hidden), ACTIVATIONS[cfg.activation](), nn.Linear(hidden, cfg.dim))  # type: ignore[operator]
        self.dropout = nn.Dropout(cfg.dropout)

    def forward(self, x_BLD: Tensor, modulation_BLSD: Tensor, angles: Rotary | None, mask: AttentionMask | None) -> Tensor:
        """(B, L, D).

        Args:
            modulation_BLSD: (B or 1, 1, 6, D): shift, scale and gate of the attention, then of the MLP.
        """
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation_BLSD.unbind(2)
        y_BLD = modulate(self.attention_norm(x_BLD), shift_1, scale_1)
        stream_BLD = x_BLD if self.residual == "input" else y_BLD
        x_BLD = stream_BLD + gate_1 * self.dropout(self.attention(y_BLD, angles, mask))
        z_BLD = modulate(self.mlp_norm(x_BLD), shift_2, scale_2)
        out_BLD: Tensor = x_BLD + gate_2 * self.dropout(self.mlp(z_BLD))
        return out_BLD


class DiT(nn.Module):
    """Token ids and a number a row to hidden states, and a separate projection of hidden states to the vocabulary.

    Linear layers have torch's own initialisation, or that of `cfg.init_std`, each drawn apart; every modulation and the
    vocabulary head begin at zero, so at first the blocks do nothing and all tokens are equally probable.

    Args:
        cfg: sizes.
        vocab_size: V.
    """

    def __init__(self, cfg: DiTConfig, vocab_size: int) -> None:
        super().__init__()
        _check(cfg)
        self.rotary_dims = min(cfg.rotary_dims, cfg.dim // cfg.heads)
        self.embedding = nn.Embedding(vocab_size, cfg.dim)
        self.convolution = EmbeddingConvolution(cfg.dim, cfg.conv_reach) if cfg.conv_reach else None
        self.places = nn.Embedding(cfg.learned_positions, cfg.dim) if cfg.learned_positions else None
        self.condition = ConditionEmbedding(cfg.conditioning_dim)
        self.modulation = zeroed(nn.Linear(cfg.conditioning_dim, cfg.layers * 6 * cfg.dim))
        self.blocks = nn.ModuleList(DiTBlock(cfg) for _ in range(cfg.layers))
        self.final_norm = ModulatedNorm(cfg.dim, cfg.conditioning_dim)
        self.head = zeroed(nn.Linear(cfg.dim, vocab_size, bias=False))
        for table in (self.embedding, self.places):
            if table is not None:
                nn.init.normal_(table.weight, std=0.02)
        if cfg.init_std is not None:
            for part in filter(None, (self.embedding, self.places, self.convolution, self.blocks)):
                initialise(part, residual_layers=2 * cfg.layers, std=cfg.init_std)

    def forward(
        self,
        ids_BL: Tensor,
        condition_B: Tensor | None = None,
        positions: Tensor | None = None,
        mask: AttentionMask | None = None,
    ) -> Tensor:
        """Hidden states after the final norm.

        Args:
            ids_BL: (B, L) int64.
            condition_B: (B,) float, as a diffusion time; 0 for all rows when None.
            positions: (L,) or (B, L) int64; 0 .. L-1 when None.
            mask: which tokens each token sees; all when None.

        Returns:
            (B, L, D) float.
        """
        conditioning_BC = self.conditioning(condition_B)
        hidden_BLD: Tensor = self.final_norm(self.trunk(ids_BL, conditioning_BC, positions, mask), conditioning_BC)
        return hidden_BLD

    def conditioning(self, condition_B: Tensor | None = None) -> Tensor:
        """(B, C): the conditioning vectors; (1, C) when None, which serves every row."""
        if condition_B is None:
            condition_B = self.head.weight.new_zeros(1)
        conditioning_BC: Tensor = self.condition(condition_B)
        return conditioning_BC

    def trunk(
        self, ids_BL: Tensor, conditioning_BC: Tensor, positions: Tensor | None = None, mask: AttentionMask | None = None
    ) -> Tensor:
        """(B, L, D): the residual stream after the last block, for heads that normalise it themselves."""
        if positions is None:
            positions = torch.arange(ids_BL.shape[1], device=ids_BL.device)
        angles = rotary(positions, self.rotary_dims) if self.rotary_dims else None
        x_BLD: Tensor = self.embedding(ids_BL)
        if self.convolution is not None:
            x_BLD = self.convolution(x_BLD, mask)
        if self.places is not None:
            x_BLD = x_BLD + self.places(positions)
        # One product for all layers: a product a layer would be as many small ones, which cost more to launch than to compute.
        modulations = self.modulation(conditioning_BC).unflatten(-1, (len(self.blocks), 1, 6, x_BLD.shape[-1]))
        for block, modulation in zip(self.blocks, modulations.unbind(1), strict=True):
            x_BLD = block(x_BLD, modulation, angles, mask)
        return x_BLD


def modulate(x_BLD: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x * (1 + scale) + shift."""
    return x_BLD * (1 + scale) + shift


def zeroed(layer: nn.Linear) -> nn.Linear:
    """The layer with all its parameters at zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _check(cfg: DiTConfig) -> None:
    if cfg.dim % cfg.heads or (cfg.dim // cfg.heads) % 2:
        raise ConfigError(
            f"model.dim={cfg.dim} does not split into {cfg.heads} heads of even size", "Change model.dim or model.heads."
        )
    for name, known in (("activation", tuple(ACTIVATIONS)), ("residual", ("input", "normalised"))):
        if getattr(cfg, name) not in known:
            raise ConfigError(f"model.{name}={getattr(cfg, name)!r} is unknown", f"One of {', '.join(known)}.")
