"""Metrics see what was asked: families put prompts into their canvases each in its own way, core puts them beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xlm_core.canvas import pad
from xlm_core.protocols import Batch, Collator, Example


@dataclass(frozen=True)
class WithPrompts:
    """A family's `predict` collator whose batches also hold `prompt_ids`, where the examples do."""

    collate: Collator
    pad_id: int

    def __call__(self, examples: Sequence[Example]) -> Batch:
        batch = self.collate(examples)
        if "prompt_ids" not in examples[0]:
            return batch
        return {**batch, "prompt_ids": pad([example["prompt_ids"] for example in examples], self.pad_id).ids}
