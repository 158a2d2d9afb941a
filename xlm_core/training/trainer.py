"""Lightning's Trainer, assembled from the config."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy

from xlm_core.config import LoggerConfig, RunConfig, TrainerConfig
from xlm_core.errors import ConfigError
from xlm_core.training import precision
from xlm_core.training.accumulation import accumulation
from xlm_core.training.ema import Ema
from xlm_core.training.log import Progress
from xlm_core.training.saving import Checkpoints


def fitter(config: RunConfig, folder: Path) -> Trainer:
    """A Trainer that trains and validates, writing into the run folder."""
    cfg, bar = config.trainer, sys.stderr.isatty()
    callbacks: list[Callback] = [
        # The average first: a checkpoint holds the update of its own step.
        *([Ema(config.ema.decay)] if config.ema.decay else []),
        Checkpoints(config.checkpoint, folder / "checkpoints", config.data.monitor, config.data.monitor_mode),
        Progress(folder / "metrics.csv", cfg.log_every, cfg.batch_size, quiet=bar),
    ]
    if bar:
        callbacks.append(RichProgressBar(leave=True, console_kwargs={"stderr": True}))
    return _trainer(
        cfg,
        folder,
        callbacks=callbacks,
        logger=loggers(config.logger, folder) or False,
        max_steps=cfg.max_steps,
        max_epochs=-1,
        accumulate_grad_batches=accumulation(cfg),
        gradient_clip_val=cfg.clip_norm or None,
        val_check_interval=max(1, cfg.eval_every) * accumulation(cfg),
        check_val_every_n_epoch=None,
        limit_val_batches=1.0 if cfg.eval_every else 0,
        log_every_n_steps=cfg.log_every,
        num_sanity_val_steps=0,
        detect_anomaly=config.debug.detect_anomaly,
        enable_progress_bar=bar,
    )


def evaluator(cfg: TrainerConfig, folder: Path) -> Trainer:
    """A Trainer that only evaluates."""
    bar = sys.stderr.isatty()
    callbacks: list[Callback] = [RichProgressBar(console_kwargs={"stderr": True})] if bar else []
    return _trainer(cfg, folder, callbacks=callbacks, logger=False, enable_progress_bar=bar)


def _trainer(cfg: TrainerConfig, folder: Path, **options: Any) -> Trainer:
    _quiet()
    accelerator = precision.accelerator(cfg.accelerator)
    if cfg.threads and accelerator == "cpu":
        torch.set_num_threads(cfg.threads)
    return Trainer(
        accelerator=accelerator,
        devices=cfg.devices,
        num_nodes=cfg.nodes,
        strategy=_strategy(cfg),
        precision=precision.choose(cfg.precision, accelerator).name,  # type: ignore[arg-type]
        deterministic=cfg.deterministic or None,
        default_root_dir=folder,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        **options,
    )


def loggers(cfg: LoggerConfig, folder: Path) -> list[Logger]:
    """Those asked for; metrics.csv is written without any.

    Raises:
        ConfigError: a logger whose package is not installed.
    """
    found: list[Logger] = []
    try:
        if cfg.tensorboard:
            found.append(TensorBoardLogger(folder, name="", version="tensorboard", **cfg.arguments))
        if cfg.wandb:
            found.append(WandbLogger(save_dir=folder, **cfg.arguments))
    except (ImportError, ModuleNotFoundError) as error:
        raise ConfigError(
            f"a logger cannot be used: {error}", "pip install 'xlm-core[tensorboard]' or 'xlm-core[wandb]'."
        ) from error
    return found


def _strategy(cfg: TrainerConfig) -> Any:
    if cfg.strategy in ("auto", "ddp") and cfg.devices * cfg.nodes > 1:
        # Ranks may evaluate different numbers of batches: nothing may be broadcast in a forward pass.
        return DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)
    return "auto" if cfg.strategy == "ddp" else cfg.strategy


def _quiet() -> None:
    """Lightning's notices that are not for our users: what matters of them is said at the start of a run."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*is not resumable.*",
        ".*LeafSpec.*",
        ".*TreeSpec.*",
        ".*Precision.*is not supported.*",
    ):
        warnings.filterwarnings("ignore", message=message)
