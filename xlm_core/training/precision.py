"""Which precision, and why: chosen from the hardware, said once."""

from __future__ import annotations

from typing import NamedTuple

import torch

from xlm_core.errors import ConfigError


class Precision(NamedTuple):
    name: str
    """What Lightning calls it."""
    reason: str


def choose(wanted: str, accelerator: str) -> Precision:
    """Turn `trainer.precision` into Lightning's name.

    Args:
        wanted: auto, bf16 or fp32.
        accelerator: cpu, cuda or mps, already decided.

    Raises:
        ConfigError: an unknown name.
    """
    if wanted == "bf16":
        return Precision("bf16-mixed", "asked for")
    if wanted == "fp32":
        return Precision("32-true", "asked for")
    if wanted != "auto":
        raise ConfigError(f"trainer.precision={wanted!r} is unknown", "One of auto, bf16, fp32.")
    if accelerator == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return Precision("bf16-mixed", "the GPU computes in bfloat16")
    if accelerator == "cpu" and _cpu_bf16():
        return Precision("bf16-mixed", "the CPU has bfloat16 instructions")
    return Precision("32-true", f"this {accelerator} has no fast bfloat16")


def _cpu_bf16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def accelerator(wanted: str) -> str:
    """cuda, mps or cpu for `trainer.accelerator`, where auto takes the best there is.

    Raises:
        ConfigError: an unknown one, or one that is not here.
    """
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, available in here.items() if available)
    name = "cuda" if wanted == "gpu" else wanted
    if not here.get(name, False):
        raise ConfigError(
            f"trainer.accelerator={wanted} is not available here", f"There is {', '.join(k for k in here if here[k])}."
        )
    return name
