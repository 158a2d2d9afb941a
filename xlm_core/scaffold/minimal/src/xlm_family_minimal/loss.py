"""Cross-entropy at masked columns."""

from __future__ import annotations

import torch
from torch import Tensor

from xlm_core.losses.vocabulary import linear_cross_entropy
from xlm_core.protocols import LossOutput, Ratio
from xlm_family_minimal.collator import MinimalBatch
from xlm_family_minimal.model import MinimalModel


class MinimalLoss:
    """With M_i the masked columns of row i, x_i the row with its masks and y_i the row without:

        loss = sum_i sum_{l in M_i} -log softmax(W h(x_i)_l)[y_il] / sum_i |M_i|

    It is no likelihood, and no `nll` term is reported.
    """

    def __init__(self, model: MinimalModel) -> None:
        self.model = model

    def __call__(self, batch: MinimalBatch, *, seed: int) -> LossOutput:
        del seed  # the collator drew the masks
        predicted, targets_BL = batch["predicted"], batch["target_ids"]
        hidden_BLD = self.model(batch["input_ids"], batch["attention_mask"])
        hidden_ND = hidden_BLD.flatten(0, 1)[predicted]
        nll_N = linear_cross_entropy(hidden_ND, self.model.head.weight, targets_BL.flatten()[predicted])
        total_B = _per_row(nll_N, predicted, targets_BL)
        count_B = _per_row(torch.ones_like(nll_N), predicted, targets_BL)
        weight = count_B.sum()
        return LossOutput(total_B.sum() / weight.clamp(min=1), weight, {"loss": Ratio(total_B.detach(), count_B)})


def _per_row(values_N: Tensor, columns_N: Tensor, canvas_BL: Tensor) -> Tensor:
    """(B,) sums of values that belong to the given columns of the flattened canvas."""
    return values_N.new_zeros(canvas_BL.numel()).index_copy(0, columns_N, values_N).view(canvas_BL.shape).sum(-1)
