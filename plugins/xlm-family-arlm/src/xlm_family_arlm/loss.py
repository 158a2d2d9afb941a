"""Next-token cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor

from xlm_core.losses.vocabulary import linear_cross_entropy
from xlm_core.protocols import LossOutput, Ratio, Scores
from xlm_family_arlm.collator import ArlmBatch
from xlm_family_arlm.config import LossConfig
from xlm_family_arlm.model import ArlmModel


class ArlmLoss:
    """With y the target of a predicted column and x what the row holds up to that column:

        nll  = sum over a row's predicted columns of -log softmax(W h(x))[y]
        loss = sum of nll over rows / number of predicted columns

    `nll` is the exact negative log-likelihood of a row, its EOS included, given what is not predicted. Every token weighs the
    same, whichever row it is in. Columns that are not predicted never reach the vocabulary projection.
    """

    def __init__(self, cfg: LossConfig, model: ArlmModel) -> None:
        del cfg
        self.model = model

    def __call__(self, batch: ArlmBatch, *, seed: int) -> LossOutput:
        del seed  # nothing here is random
        hidden_BLD = self._hidden(batch)
        predicted, targets_BL = batch["predicted"], batch["target_ids"]
        nll = linear_cross_entropy(hidden_BLD.flatten(0, 1)[predicted], self.model.head.weight, targets_BL.flatten()[predicted])
        count = len(predicted)
        rows = Ratio(_per_row(nll.detach(), predicted, targets_BL.shape), batch["target_mask"].sum(-1).float())
        return LossOutput(nll.sum() / max(count, 1), nll.new_full((), count), {"loss": rows, "nll": rows})

    def log_likelihood(self, batch: ArlmBatch, *, seed: int) -> Scores:
        """Exact. See `xlm_core.protocols.LikelihoodScorer`."""
        del seed
        predicted, targets_BL = batch["predicted"], batch["target_ids"]
        logits_NV = self.model.head(self._hidden(batch).flatten(0, 1)[predicted])
        logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
        targets_N = targets_BL.flatten()[predicted]
        values = logits_NV.log_softmax(-1).gather(1, targets_N[:, None])[:, 0].double()
        missed = (logits_NV.argmax(-1) != targets_N).double()
        return Scores(_per_row(values, predicted, targets_BL.shape), _per_row(missed, predicted, targets_BL.shape) == 0)

    def _hidden(self, batch: ArlmBatch) -> Tensor:
        return self.model.hidden(batch["input_ids"], segment_ids=batch.get("segment_ids"), positions=batch.get("positions"))


def _per_row(values: Tensor, columns: Tensor, shape: torch.Size) -> Tensor:
    """(B,) sums of (N,) values that belong to the given columns of the flattened canvas."""
    return values.new_zeros(shape.numel()).index_copy(0, columns, values).view(shape).sum(-1)
