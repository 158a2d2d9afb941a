"""Looking at one thing without a run: a row of a data set, the tokenizer of a run, the hardware."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xlm_core.config import RunConfig
    from xlm_core.data.roles import Token
    from xlm_core.families import Family
    from xlm_core.protocols import Example, Tokenizer


def example(config: RunConfig) -> tuple[Tokenizer, Example]:
    """The tokenizer and the first row of the first split that the data set has. Only that row is prepared, and not kept."""
    from xlm_core.data import store, tokenizers

    made = tokenizers.build(config.tokenizer, text_path=config.data.path)
    split, which = next(iter(config.data.splits.items()))
    one = replace(config.data, splits={split: replace(which, rows=1)}, processes=1)
    with TemporaryDirectory() as scratch:
        rows = store.prepare(one, made, split, cache=Path(scratch))
        return made, rows[0]


def tokens(config: RunConfig, tokenizer: Tokenizer, row: Example, family: Family | None) -> list[Token]:
    """The tokens of a row with their roles; with a family, those that its network reads in training."""
    from xlm_core.data import roles

    layout = config.data.layout
    if family is None:
        return roles.of_example(row, layout, tokenizer)
    collate = family.hook.xlm_collator(cfg=config.collator, tokenizer=tokenizer, layout=layout, stage="train")
    return roles.of_batch(collate([{"draw": 0, **row}]), row, layout, tokenizer)


def tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer that a run was trained with."""
    from xlm_core.data import tokenizers

    return tokenizers.load(folder / "tokenizer")


def hardware() -> dict[str, str]:
    """What a run computes on here: torch, the device, and the dtypes that it multiplies matrices in."""
    import torch

    from xlm_core.training import precision

    kind = precision.accelerator("auto")
    chosen = precision.choose("auto", kind)
    names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] or [platform.processor() or kind]
    dtypes = [dtype for dtype in ("float32", "bfloat16", "float16") if _computes(dtype, kind)]
    return {
        "torch": f"{torch.__version__}, {torch.__path__[0]}",
        "device": f"{kind}: {', '.join(names)}, {torch.get_num_threads()} CPU threads",
        "dtypes": f"{', '.join(dtypes)}; runs take {chosen.name}: {chosen.reason}",
    }


def _computes(dtype: str, device: str) -> bool:
    import torch

    try:
        ones = torch.ones(8, 8, dtype=getattr(torch, dtype), device=device)
        return bool((ones @ ones == 8).all())
    except (RuntimeError, TypeError, AssertionError):  # as backends say that they have no such kernel
        return False
