"""Checkpoints are written whole or not at all, at step boundaries only, thinned, and on a signal before the run stops."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from xlm_core.config import CheckpointConfig
from xlm_core.errors import Interrupted
from xlm_core.evaluation.statistics import Estimate
from xlm_core.training.checkpoints import BEST, periodic, step_of
from xlm_core.training.harness import Harness

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Checkpoints(Callback):
    """Saves every N steps, at the end, at the best validation, and when a signal arrives.

    Args:
        cfg: how often, and what to keep.
        folder: where.
        monitor: the validation metric that decides which is best, without its split.
        mode: min or max.
    """

    def __init__(self, cfg: CheckpointConfig, folder: Path, monitor: str, mode: str) -> None:
        self.cfg, self.folder = cfg, folder
        self.monitor, self.sign = f"validation/{monitor}", {"min": 1.0, "max": -1.0}[mode]
        self.best: float | None = None
        self._signal: int | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # After Lightning has installed its own handlers: ours save at the next step boundary and nowhere else.
        self._handlers = {number: signal.signal(number, self._received) for number in SIGNALS}

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _received(self, number: int, frame: object) -> None:
        self._signal = number

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        step = trainer.global_step
        stop = trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False)
        if stop or (self.cfg.every and step % self.cfg.every == 0) or step == trainer.max_steps:
            self.save(trainer, step)
        if stop:
            name = signal.Signals(self._signal or signal.SIGTERM).name
            raise Interrupted(f"stopped by {name} at step {step}, after a checkpoint", "Continue with --resume auto.")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        estimate: Estimate | None = _harness(pl_module).estimates.get(self.monitor)
        if not self.cfg.best or estimate is None or trainer.state.fn != "fit":
            return
        if self.best is None or self.sign * estimate.value <= self.sign * self.best:  # of equals the later
            self.best = estimate.value
            self._write(trainer, self.folder / BEST)

    def save(self, trainer: Trainer, step: int) -> None:
        _harness(trainer.lightning_module).check_finite()
        self._write(trainer, self.folder / f"step_{step:08d}.ckpt")
        if trainer.is_global_zero:
            for old in periodic(self.folder)[: -self.cfg.keep_last]:
                if not (self.cfg.keep_every and step_of(old) % self.cfg.keep_every == 0):
                    old.unlink()

    def _write(self, trainer: Trainer, path: Path) -> None:
        unfinished = path.with_suffix(".writing")
        trainer.save_checkpoint(unfinished)
        if trainer.is_global_zero:
            os.replace(unfinished, path)
        trainer.strategy.barrier()

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


def _harness(module: LightningModule) -> Harness:
    assert isinstance(module, Harness)
    return module
