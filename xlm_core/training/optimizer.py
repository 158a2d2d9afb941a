"""AdamW with decay groups by the role of a parameter, and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from xlm_core.config import OptimizerConfig, SchedulerConfig
from xlm_core.errors import ConfigError

NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)
SCHEDULES = ("constant", "linear", "cosine", "inverse_sqrt")


def decayed(module: nn.Module, *, embeddings: bool) -> Iterator[nn.Parameter]:
    """Parameters under weight decay: all but biases, norm gains and other vectors, and embeddings if so chosen.

    The role is read off the module that owns a parameter and its shape, never off its name.
    """
    for owner in module.modules():
        if isinstance(owner, NORMS) or (isinstance(owner, nn.Embedding) and not embeddings):
            continue
        yield from (p for p in owner.parameters(recurse=False) if p.ndim >= 2)


def adamw(module: nn.Module, cfg: OptimizerConfig) -> Optimizer:
    """AdamW over the trainable parameters of `module`, each in exactly one of two groups."""
    decay = {id(p) for p in decayed(module, embeddings=cfg.decay_embeddings)}
    trainable = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if id(p) in decay], "weight_decay": cfg.weight_decay},
        {"params": [p for p in trainable if id(p) not in decay], "weight_decay": 0.0},
    ]
    fused = all(p.device.type in ("cpu", "cuda") for p in trainable)
    first, second = cfg.betas
    return torch.optim.AdamW(groups, lr=cfg.lr, betas=(first, second), eps=cfg.eps, fused=fused)


def schedule(cfg: SchedulerConfig, max_steps: int) -> Callable[[int], float]:
    """The factor on the learning rate of each step, counted from 0: linear warm-up, then the chosen shape.

    Raises:
        ConfigError: an unknown kind, a warm-up longer than the training, or no cycle.
    """
    if cfg.kind not in SCHEDULES:
        raise ConfigError(f"scheduler.kind={cfg.kind!r} is unknown", f"One of {', '.join(SCHEDULES)}.")
    if cfg.warmup_steps >= max_steps and cfg.kind in ("linear", "cosine"):
        raise ConfigError(f"scheduler.warmup_steps={cfg.warmup_steps} leaves nothing of {max_steps} steps", "Lower it.")
    if cfg.cycles < 1:
        raise ConfigError(f"scheduler.cycles={cfg.cycles} is no number of cycles", "It is at least 1.")
    warmup, final = cfg.warmup_steps, cfg.final

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, max_steps - warmup))
        if cfg.kind == "linear":
            return 1.0 - (1.0 - final) * done
        if cfg.kind == "cosine":
            inside = done * cfg.cycles % 1.0 if done < 1.0 else 1.0
            return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * inside))
        if cfg.kind == "inverse_sqrt":
            return math.sqrt(max(1, warmup) / max(1, step + 1))
        return 1.0

    return factor


def lambda_lr(optimizer: Optimizer, cfg: SchedulerConfig, max_steps: int) -> LambdaLR:
    return LambdaLR(optimizer, schedule(cfg, max_steps))
