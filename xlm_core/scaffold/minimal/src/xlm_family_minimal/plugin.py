"""The family's hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xlm_core.hookspecs import hookimpl
from xlm_core.protocols import Collator, FamilyInfo, Layout, Loss, Predictor, Stage, Tokenizer
from xlm_family_minimal.config import CollatorConfig, LossConfig, ModelConfig, PredictorConfig

if TYPE_CHECKING:
    from xlm_family_minimal.model import MinimalModel


@hookimpl
def xlm_info() -> FamilyInfo:
    return FamilyInfo(
        title="Masked model: fills masks, the surest first",
        paper="arXiv:2202.04200",
        layouts=("lm", "seq2seq"),
        likelihood="none",
        variable_length=True,
        configs={"model": ModelConfig, "loss": LossConfig, "predictor": PredictorConfig, "collator": CollatorConfig},
    )


@hookimpl
def xlm_model(cfg: ModelConfig, tokenizer: Tokenizer) -> MinimalModel:
    from xlm_family_minimal.model import MinimalModel

    return MinimalModel(cfg, len(tokenizer), tokenizer.pad_token_id)


@hookimpl
def xlm_loss(model: MinimalModel) -> Loss:
    from xlm_family_minimal.loss import MinimalLoss

    return MinimalLoss(model)  # type: ignore[return-value]  # it reads batches of its own collator, not any Batch


@hookimpl
def xlm_predictor(cfg: PredictorConfig, model: MinimalModel, tokenizer: Tokenizer) -> Predictor:
    from xlm_family_minimal.predictor import MinimalPredictor

    return MinimalPredictor(cfg, model, tokenizer)  # type: ignore[return-value]


@hookimpl
def xlm_collator(cfg: CollatorConfig, tokenizer: Tokenizer, layout: Layout, stage: Stage) -> Collator:
    from xlm_core.canvas import Specials
    from xlm_family_minimal.collator import MinimalCollator

    return MinimalCollator(cfg, Specials.of(tokenizer), layout, stage)
