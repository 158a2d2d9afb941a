"""Looking at one thing without a run: a row of a data set, the tokenizer of a run, the hardware."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xlm_core.config import RunConfig
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


def tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer that a run was trained with."""
    from xlm_core.data import tokenizers

    return tokenizers.load(folder / "tokenizer")


def hardware() -> str:
    """What a run computes on here, and in which precision."""
    import torch

    from xlm_core.training import precision

    accelerator = precision.accelerator("auto")
    chosen = precision.choose("auto", accelerator)
    return f"torch {torch.__version__}, {accelerator}, {torch.get_num_threads()} threads, {chosen.name} ({chosen.reason})"
