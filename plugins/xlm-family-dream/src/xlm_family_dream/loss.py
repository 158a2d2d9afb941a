"""Cross-entropy at masked positions, each predicted from the column before."""

from __future__ import annotations

from torch import Tensor

from xlm_core.errors import ConfigError
from xlm_core.losses.vocabulary import linear_cross_entropy
from xlm_core.protocols import LossOutput, Ratio
from xlm_family_dream.collator import DreamBatch
from xlm_family_dream.config import LossConfig
from xlm_family_dream.model import DreamModel


class DreamLoss:
    """With k_i of the n_i free columns of row i masked, x the row with its masks and T_i the tokens of its text:

        S_i   = sum over masked l of -log softmax(W h(x)_{l-1})[y_l]
        nll_i = n_i / k_i * S_i
        loss  = sum_i nll_i / sum_i T_i        weight: bound
        loss  = sum_i S_i / sum_i k_i          weight: tokens

    k is uniform on 1 .. n, so the mean of nll_i is the any-order bound of -log p(free columns | the others), which is the
    integral over time of masked diffusion's loss with weight 1 / t (Ou et al., 2024, arXiv 2406.03736, theorem 2). EOS behind
    the first of a text is in the bound, since it says how long the text is, and is no token that it is divided by.
    """

    def __init__(self, cfg: LossConfig, model: DreamModel) -> None:
        if cfg.weight not in ("bound", "tokens"):
            raise ConfigError(f"loss.weight={cfg.weight!r} is unknown", "One of bound, tokens.")
        self.cfg = cfg
        self.model = model

    def __call__(self, batch: DreamBatch, *, seed: int) -> LossOutput:
        """See `xlm_core.protocols.Loss`. `terms` has the bound as `nll` whatever the weight."""
        del seed  # the collator drew the masks
        hidden_BLD = self.model.hidden(
            batch["input_ids"],
            attention_mask=batch["attention_mask"],
            segment_ids=batch.get("segment_ids"),
            positions=batch.get("positions"),
        )
        predicted, targets_BL = batch["predicted"], batch["target_ids"]
        hidden_ND = hidden_BLD.flatten(0, 1)[batch["source"]]
        nll = linear_cross_entropy(hidden_ND, self.model.head.weight, targets_BL.flatten()[predicted])
        total, masked = _per_row(nll, predicted, targets_BL), batch["target_mask"].sum(-1).to(nll.dtype)
        bound = Ratio(total * batch["free"] / masked.clamp(min=1), batch["tokens"].to(nll.dtype))
        chosen = bound if self.cfg.weight == "bound" else Ratio(total, masked)
        weight = chosen.count.sum()
        terms = {"loss": Ratio(chosen.total.detach(), chosen.count), "nll": Ratio(bound.total.detach(), bound.count)}
        return LossOutput(chosen.total.sum() / weight.clamp(min=1), weight, terms)


def _per_row(values: Tensor, columns: Tensor, canvas: Tensor) -> Tensor:
    """(B,) sums of (N,) values that belong to the given columns of the flattened (B, L) canvas."""
    return values.new_zeros(canvas.numel()).index_copy(0, columns, values).view(canvas.shape).sum(-1)
