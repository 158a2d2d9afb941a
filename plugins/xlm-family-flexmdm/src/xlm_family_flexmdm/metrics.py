"""A metric for `data.metrics`, beside core's."""

from __future__ import annotations

import torch

from xlm_core.protocols import Batch, Prediction, Ratio, Tokenizer
from xlm_family_flexmdm.predictor import FlexmdmPrediction


def refused(prediction: Prediction, batch: Batch, tokenizer: Tokenizer) -> dict[str, Ratio]:
    """Insertions that `predictor.max_new_tokens` kept out, step by step; 0 where the answer had room."""
    del batch, tokenizer
    if not isinstance(prediction, FlexmdmPrediction) or prediction.refused is None:
        raise TypeError("this metric reads predictions of the flexmdm family")
    return {"refused": Ratio(prediction.refused.double(), torch.ones_like(prediction.refused, dtype=torch.float64))}
