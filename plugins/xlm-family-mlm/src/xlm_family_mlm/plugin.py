"""The family's hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xlm_core.hookspecs import hookimpl
from xlm_core.protocols import Collator, FamilyInfo, Layout, Loss, Predictor, Stage, Tokenizer
from xlm_family_mlm.config import CollatorConfig, LossConfig, ModelConfig, PredictorConfig

if TYPE_CHECKING:
    from xlm_family_mlm.model import MlmModel


@hookimpl
def xlm_info() -> FamilyInfo:
    return FamilyInfo(
        title="Masked language model: masks filled in any order, one or many at each step",
        paper="arXiv:2202.04200",
        layouts=("lm", "seq2seq", "infill"),
        likelihood="none",
        variable_length=True,
        packed=True,
        configs={"model": ModelConfig, "loss": LossConfig, "predictor": PredictorConfig, "collator": CollatorConfig},
    )


@hookimpl
def xlm_model(cfg: ModelConfig, tokenizer: Tokenizer) -> MlmModel:
    from xlm_family_mlm.model import MlmModel

    return MlmModel(cfg, len(tokenizer), tokenizer.pad_token_id)


@hookimpl
def xlm_loss(cfg: LossConfig, model: MlmModel) -> Loss:
    from xlm_family_mlm.loss import MlmLoss

    return MlmLoss(cfg, model)  # type: ignore[return-value]  # it reads batches of its own collator, not any Batch


@hookimpl
def xlm_predictor(cfg: PredictorConfig, model: MlmModel, tokenizer: Tokenizer) -> Predictor:
    from xlm_family_mlm.predictor import MlmPredictor

    return MlmPredictor(cfg, model, tokenizer)  # type: ignore[return-value]


@hookimpl
def xlm_collator(cfg: CollatorConfig, tokenizer: Tokenizer, layout: Layout, stage: Stage) -> Collator:
    from xlm_family_mlm.collator import collator

    return collator(cfg, tokenizer, layout, stage)
