"""Insertion loss and outcome loss of arXiv 2505.05755, section 3."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from xlm_core.errors import ConfigError
from xlm_core.losses.vocabulary import linear_logsumexp, linear_token_logits
from xlm_core.protocols import LossOutput, Ratio
from xlm_family_ilm.collator import IlmBatch
from xlm_family_ilm.config import LossConfig
from xlm_family_ilm.model import STOP, IlmModel


class IlmLoss:
    """For a row with N > 0 dropped tokens t at gaps g, over the one softmax of all allowed (gap, token) pairs:

        insertion = -1/N sum_(g, t) log softmax(z)[g, t]        (0 when N = 0)
        outcome   = -log p(N = 0 or not)  or  -log p(N)         (from the CLS head)
        loss      = mean over rows of insertion + outcome_weight * outcome

    The softmax runs over G * V pairs but is never stored: log sum exp over tokens comes from the fused projection, and only
    the logits of the targets are computed one by one.
    """

    def __init__(self, cfg: LossConfig, model: IlmModel) -> None:
        if cfg.stop_class_weight is not None and model.outcome_kind != "stop":
            raise ConfigError("loss.stop_class_weight needs model.outcome=stop", "Leave it out with the length head.")
        self.cfg = cfg
        self.model = model

    def __call__(self, batch: IlmBatch, *, seed: int) -> LossOutput:
        del seed  # the collator drew the noise
        hidden_BLD = self.model.hidden(batch["input_ids"], batch["attention_mask"])
        count = batch["target_mask"].sum(-1)
        insertion = self.insertion(hidden_BLD, batch)
        outcome_logits = self.model.outcome(hidden_BLD[:, 0]).float()
        outcome = self.outcome(outcome_logits, count)
        rows = insertion + self.cfg.outcome_weight * outcome
        some, ones = (count > 0).float(), torch.ones_like(rows)
        right = (outcome_logits.argmax(-1) == self._classes(count)).float()
        terms = {
            "loss": Ratio(rows.detach(), ones),
            "insertion": Ratio(insertion.detach(), some),
            "outcome": Ratio(outcome.detach(), ones),
            "outcome_accuracy": Ratio(right, ones),
        }
        return LossOutput(rows.mean(), ones.sum(), terms)

    def insertion(self, hidden_BLD: Tensor, batch: IlmBatch) -> Tensor:
        """(B,) insertion loss of each row, in nats."""
        weight = self.model.head.weight
        hidden_BGD = _take(hidden_BLD, batch["gaps"])
        gap_lse = linear_logsumexp(hidden_BGD.flatten(0, 1), weight).view(batch["gaps"].shape)
        # Not -inf: the gradient of a row without an open gap (an infill row without a hole) would pass through NaN.
        total = gap_lse.masked_fill(~batch["gap_mask"], torch.finfo(gap_lse.dtype).min).logsumexp(-1)
        hidden_BTD = _take(hidden_BGD, batch["target_gaps"])
        logits = linear_token_logits(hidden_BTD.flatten(0, 1), weight, batch["target_tokens"].flatten())
        mask = batch["target_mask"]
        count = mask.sum(-1)
        mean = logits.view(mask.shape).masked_fill(~mask, 0.0).sum(-1) / count.clamp(min=1)
        return torch.where(count > 0, total - mean, 0.0)

    def outcome(self, logits_BC: Tensor, count: Tensor) -> Tensor:
        """(B,) loss of the CLS head, in nats.

        Args:
            logits_BC: (B, C) float32.
            count: (B,) int64, dropped tokens.
        """
        weights = self.cfg.stop_class_weight
        classes = None if weights is None else logits_BC.new_tensor([weights, 1 - weights])
        return F.cross_entropy(logits_BC, self._classes(count), weight=classes, reduction="none")

    def _classes(self, count: Tensor) -> Tensor:
        if self.model.outcome_kind == "stop":
            return torch.where(count > 0, 1 - STOP, STOP)
        return count.clamp(max=self.model.outcome.classes.out_features - 1)


def _take(x_BLD: Tensor, columns: Tensor) -> Tensor:
    """(B, G, D): the states of the given (B, G) columns."""
    return x_BLD.gather(1, columns[..., None].expand(-1, -1, x_BLD.shape[-1]))
