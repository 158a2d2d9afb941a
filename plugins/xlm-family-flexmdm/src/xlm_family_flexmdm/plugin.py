"""The family's hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xlm_core.hookspecs import hookimpl
from xlm_core.protocols import Collator, FamilyInfo, Layout, Loss, Predictor, Stage, Tokenizer
from xlm_family_flexmdm.config import CollatorConfig, LossConfig, ModelConfig, PredictorConfig

if TYPE_CHECKING:
    from xlm_family_flexmdm.model import FlexmdmModel


@hookimpl
def xlm_info() -> FamilyInfo:
    return FamilyInfo(
        title="Masked diffusion of flexible length: masks are inserted anywhere and become tokens",
        paper="arXiv:2509.01025",
        layouts=("lm", "seq2seq", "infill"),
        likelihood="bound",
        variable_length=True,
        time_conditioned=True,
        configs={"model": ModelConfig, "loss": LossConfig, "predictor": PredictorConfig, "collator": CollatorConfig},
    )


@hookimpl
def xlm_model(cfg: ModelConfig, tokenizer: Tokenizer) -> FlexmdmModel:
    from xlm_core.canvas import Specials
    from xlm_family_flexmdm.model import FlexmdmModel

    return FlexmdmModel(cfg, len(tokenizer), Specials.of(tokenizer))


@hookimpl
def xlm_loss(cfg: LossConfig, model: FlexmdmModel) -> Loss:
    from xlm_family_flexmdm.loss import FlexmdmLoss

    return FlexmdmLoss(cfg, model)  # type: ignore[return-value]  # it reads batches of its own collator, not any Batch


@hookimpl
def xlm_predictor(cfg: PredictorConfig, model: FlexmdmModel, tokenizer: Tokenizer) -> Predictor:
    from xlm_family_flexmdm.predictor import FlexmdmPredictor

    return FlexmdmPredictor(cfg, model, tokenizer)  # type: ignore[return-value]


@hookimpl
def xlm_collator(cfg: CollatorConfig, tokenizer: Tokenizer, layout: Layout, stage: Stage) -> Collator:
    from xlm_family_flexmdm.collator import collator

    return collator(cfg, tokenizer, layout, stage)
