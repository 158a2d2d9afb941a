"""Whether generated texts are molecules, during training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from xlm_core.protocols import Batch, Prediction, Ratio

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer


def valid(prediction: Prediction, batch: Batch, tokenizer: Tokenizer) -> dict[str, Ratio]:
    """`raw_valid`, the share of rows that are a molecule as they stand, and `repaired_valid`, of those that are one after
    `chemistry.repaired`. Where there are prompts, a row is its prompt and its answer. Needs rdkit."""
    from xlm_core.tasks.molecules import chemistry

    ids = prediction.ids
    if "prompt_ids" in batch:
        ids = torch.cat([batch["prompt_ids"].to(ids.device), ids], dim=1)
    texts = [str(tokenizer.decode(row, skip_special_tokens=True)) for row in ids.tolist()]
    return {"raw_valid": _share(texts, chemistry.molecule), "repaired_valid": _share(texts, chemistry.repaired)}


def _share(texts: Sequence[str], read: Callable[[str], Any]) -> Ratio:
    hits = torch.tensor([float(read(text) is not None) for text in texts], dtype=torch.float64)
    return Ratio(hits, torch.ones_like(hits))
