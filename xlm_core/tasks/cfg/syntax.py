"""Whether generated sentences are those of the grammar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from xlm_core.protocols import Batch, Prediction, Ratio
from xlm_core.tasks.boards import share
from xlm_core.tasks.cfg.grammar import DEPTH, G1

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer


def syntax(prediction: Prediction, batch: Batch, tokenizer: Tokenizer) -> dict[str, Ratio]:
    """`grammatical`: share of rows that the grammar derives, at any depth. `in_language`: at the depth of the data, so that the
    row is one of the sentences of the splits. An empty row is neither, nor one with a special token left in it."""
    del batch
    rows = [[token for token in row if token != tokenizer.pad_token_id] for row in prediction.ids.tolist()]
    depths = torch.tensor([G1.depth(str(tokenizer.decode(row)).split()) for row in rows], device=prediction.ids.device)
    return {"grammatical": share(depths.isfinite()), "in_language": share(depths <= DEPTH)}
