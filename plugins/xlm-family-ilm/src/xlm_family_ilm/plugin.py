"""The family's hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xlm_core.hookspecs import hookimpl
from xlm_core.protocols import Collator, FamilyInfo, Layout, Loss, Predictor, Stage, Tokenizer
from xlm_family_ilm.config import CollatorConfig, LossConfig, ModelConfig, PredictorConfig

if TYPE_CHECKING:
    from xlm_family_ilm.model import IlmModel


@hookimpl
def xlm_info() -> FamilyInfo:
    return FamilyInfo(
        title="Insertion language model: one token inserted anywhere at each step, until nothing is missing",
        paper="arXiv:2505.05755",
        layouts=("lm", "seq2seq", "infill"),
        likelihood="none",
        variable_length=True,
        configs={"model": ModelConfig, "loss": LossConfig, "predictor": PredictorConfig, "collator": CollatorConfig},
    )


@hookimpl
def xlm_model(cfg: ModelConfig, tokenizer: Tokenizer) -> IlmModel:
    from xlm_family_ilm.model import IlmModel

    return IlmModel(cfg, len(tokenizer), tokenizer.pad_token_id)


@hookimpl
def xlm_loss(cfg: LossConfig, model: IlmModel) -> Loss:
    from xlm_family_ilm.loss import IlmLoss

    return IlmLoss(cfg, model)  # type: ignore[return-value]  # it reads batches of its own collator, not any Batch


@hookimpl
def xlm_predictor(cfg: PredictorConfig, model: IlmModel, tokenizer: Tokenizer) -> Predictor:
    from xlm_family_ilm.predictor import IlmPredictor

    return IlmPredictor(cfg, model, tokenizer)  # type: ignore[return-value]


@hookimpl
def xlm_collator(cfg: CollatorConfig, tokenizer: Tokenizer, layout: Layout, stage: Stage) -> Collator:
    from xlm_family_ilm.collator import collator

    return collator(cfg, tokenizer, layout, stage)
