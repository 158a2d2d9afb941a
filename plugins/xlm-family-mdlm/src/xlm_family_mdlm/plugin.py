"""The family's hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xlm_core.hookspecs import hookimpl
from xlm_core.protocols import Collator, FamilyInfo, Layout, Loss, Predictor, Stage, Tokenizer
from xlm_family_mdlm.config import CollatorConfig, LossConfig, ModelConfig, PredictorConfig

if TYPE_CHECKING:
    from xlm_family_mdlm.model import MdlmModel


@hookimpl
def xlm_info() -> FamilyInfo:
    return FamilyInfo(
        title="Masked diffusion: tokens are masked at random times and predicted back in any order",
        paper="arXiv:2406.07524",
        layouts=("lm", "seq2seq", "infill"),
        likelihood="bound",
        variable_length=True,
        packed=True,
        configs={"model": ModelConfig, "loss": LossConfig, "predictor": PredictorConfig, "collator": CollatorConfig},
    )


@hookimpl
def xlm_model(cfg: ModelConfig, tokenizer: Tokenizer) -> MdlmModel:
    from xlm_core.canvas import Specials
    from xlm_family_mdlm.model import MdlmModel

    return MdlmModel(cfg, len(tokenizer), Specials.of(tokenizer))


@hookimpl
def xlm_loss(cfg: LossConfig, model: MdlmModel) -> Loss:
    from xlm_family_mdlm.loss import MdlmLoss

    return MdlmLoss(cfg, model)  # type: ignore[return-value]  # it reads batches of its own collator, not any Batch


@hookimpl
def xlm_predictor(cfg: PredictorConfig, model: MdlmModel, tokenizer: Tokenizer) -> Predictor:
    from xlm_family_mdlm.predictor import MdlmPredictor

    return MdlmPredictor(cfg, model, tokenizer)  # type: ignore[return-value]


@hookimpl
def xlm_collator(cfg: CollatorConfig, tokenizer: Tokenizer, layout: Layout, stage: Stage) -> Collator:
    from xlm_family_mdlm.collator import collator

    return collator(cfg, tokenizer, layout, stage)
