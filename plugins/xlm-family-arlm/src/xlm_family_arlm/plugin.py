"""The family's hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xlm_core.hookspecs import hookimpl
from xlm_core.protocols import Collator, FamilyInfo, Layout, Loss, Predictor, Stage, Tokenizer
from xlm_family_arlm.config import CollatorConfig, LossConfig, ModelConfig, PredictorConfig

if TYPE_CHECKING:
    from xlm_family_arlm.model import ArlmModel


@hookimpl
def xlm_info() -> FamilyInfo:
    return FamilyInfo(
        title="Autoregressive baseline: the next token from left to right, until EOS",
        paper="",
        layouts=("lm", "seq2seq"),
        likelihood="exact",
        variable_length=True,
        packed=True,
        configs={"model": ModelConfig, "loss": LossConfig, "predictor": PredictorConfig, "collator": CollatorConfig},
    )


@hookimpl
def xlm_model(cfg: ModelConfig, tokenizer: Tokenizer) -> ArlmModel:
    from xlm_family_arlm.model import ArlmModel

    return ArlmModel(cfg, len(tokenizer), tokenizer.pad_token_id)


@hookimpl
def xlm_loss(cfg: LossConfig, model: ArlmModel) -> Loss:
    from xlm_family_arlm.loss import ArlmLoss

    return ArlmLoss(cfg, model)  # type: ignore[return-value]  # it reads batches of its own collator, not any Batch


@hookimpl
def xlm_predictor(cfg: PredictorConfig, model: ArlmModel, tokenizer: Tokenizer) -> Predictor:
    from xlm_family_arlm.predictor import ArlmPredictor

    return ArlmPredictor(cfg, model, tokenizer)  # type: ignore[return-value]


@hookimpl
def xlm_collator(cfg: CollatorConfig, tokenizer: Tokenizer, layout: Layout, stage: Stage) -> Collator:
    from xlm_family_arlm.collator import collator

    return collator(cfg, tokenizer, layout, stage)
