"""The family's hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xlm_core.hookspecs import hookimpl
from xlm_core.protocols import Collator, FamilyInfo, Layout, Loss, Predictor, Stage, Tokenizer
from xlm_family_dream.config import CollatorConfig, LossConfig, ModelConfig, PredictorConfig

if TYPE_CHECKING:
    import typer

    from xlm_family_dream.model import DreamModel


@hookimpl
def xlm_info() -> FamilyInfo:
    return FamilyInfo(
        title="Dream: masked diffusion with shifted predictions, from an autoregressive Qwen2",
        paper="arXiv:2508.15487",
        layouts=("lm", "seq2seq", "infill"),
        likelihood="bound",
        variable_length=True,
        packed=True,
        configs={"model": ModelConfig, "loss": LossConfig, "predictor": PredictorConfig, "collator": CollatorConfig},
    )


@hookimpl
def xlm_model(cfg: ModelConfig, tokenizer: Tokenizer) -> DreamModel:
    from xlm_family_dream.model import DreamModel
    from xlm_family_dream.weights import load

    return DreamModel(cfg, len(tokenizer)) if cfg.pretrained is None else load(cfg, tokenizer)


@hookimpl
def xlm_loss(cfg: LossConfig, model: DreamModel) -> Loss:
    from xlm_family_dream.loss import DreamLoss

    return DreamLoss(cfg, model)  # type: ignore[return-value]  # it reads batches of its own collator, not any Batch


@hookimpl
def xlm_predictor(cfg: PredictorConfig, model: DreamModel, tokenizer: Tokenizer) -> Predictor:
    from xlm_family_dream.predictor import DreamPredictor

    return DreamPredictor(cfg, model, tokenizer)  # type: ignore[return-value]


@hookimpl
def xlm_collator(cfg: CollatorConfig, tokenizer: Tokenizer, layout: Layout, stage: Stage) -> Collator:
    from xlm_family_dream.collator import collator

    return collator(cfg, tokenizer, layout, stage)


@hookimpl
def xlm_commands() -> typer.Typer:
    from xlm_family_dream.commands import commands

    return commands
