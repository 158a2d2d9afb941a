"""Cross-entropy at masked positions."""

from __future__ import annotations

from torch import Tensor

from xlm_core.errors import ConfigError
from xlm_core.losses.vocabulary import linear_cross_entropy
from xlm_core.protocols import LossOutput, Ratio
from xlm_family_mlm.collator import MlmBatch
from xlm_family_mlm.config import LossConfig
from xlm_family_mlm.model import MlmModel


class MlmLoss:
    """With M_i the predicted columns of row i, n_i how many they are, and x the row with its masks:

        nll_i = sum over l in M_i of -log softmax(W h(x)_l)[y_l]
        loss  = sum_i nll_i / sum_i n_i                                    mean_over: tokens
        loss  = sum_i nll_i / n_i / number of rows with n_i > 0            mean_over: rows

    Neither is a likelihood. Columns that are not predicted never reach the vocabulary projection.
    """

    def __init__(self, cfg: LossConfig, model: MlmModel) -> None:
        if cfg.mean_over not in ("tokens", "rows"):
            raise ConfigError(f"loss.mean_over={cfg.mean_over!r} is unknown", "One of tokens, rows.")
        self.cfg = cfg
        self.model = model

    def __call__(self, batch: MlmBatch, *, seed: int) -> LossOutput:
        del seed  # the collator drew the masks
        hidden_BLD = self.model.hidden(
            batch["input_ids"],
            attention_mask=batch["attention_mask"],
            segment_ids=batch.get("segment_ids"),
            positions=batch.get("positions"),
        )
        predicted, targets_BL = batch["predicted"], batch["target_ids"]
        nll = linear_cross_entropy(hidden_BLD.flatten(0, 1)[predicted], self.model.head.weight, targets_BL.flatten()[predicted])
        total, count = _per_row(nll, predicted, targets_BL), batch["target_mask"].sum(-1).to(nll.dtype)
        if self.cfg.mean_over == "rows":
            total, count = total / count.clamp(min=1), (count > 0).to(nll.dtype)
        weight = count.sum()
        return LossOutput(total.sum() / weight.clamp(min=1), weight, {"loss": Ratio(total.detach(), count)})


def _per_row(values: Tensor, columns: Tensor, canvas: Tensor) -> Tensor:
    """(B,) sums of (N,) values that belong to the given columns of the flattened (B, L) canvas."""
    return values.new_zeros(canvas.numel()).index_copy(0, columns, values).view(canvas.shape).sum(-1)
