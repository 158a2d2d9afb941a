"""What a run tells: metrics.csv, always; a progress bar on a terminal and plain lines elsewhere."""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from xlm_core.evaluation.statistics import Estimate
from xlm_core.protocols import LossOutput
from xlm_core.training.harness import Harness

COLUMNS = ("step", "metric", "value", "stderr", "n")


class MetricsFile:
    """metrics.csv: one line a number, appended as it is measured. Resuming drops the lines after the resumed step."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, step: int) -> None:
        kept = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                kept = [row for row in csv.reader(file) if row and row[0].isdigit() and int(row[0]) <= step]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *kept])

    def write(self, step: int, values: dict[str, Estimate]) -> None:
        with self.path.open("a", newline="") as file:
            rows = ((step, k, f"{e.value:.8g}", "" if e.stderr is None else f"{e.stderr:.4g}", e.n) for k, e in values.items())
            csv.writer(file).writerows(rows)


class Progress(Callback):
    """Logs every N steps and after each validation: to the file, to Lightning's loggers, and to stderr.

    Args:
        path: of metrics.csv.
        every: steps.
        rows: in one optimiser step, over all ranks.
        quiet: no lines (a progress bar shows them).
    """

    def __init__(self, path: Path, every: int, rows: int, *, quiet: bool) -> None:
        self.file, self.every, self.rows, self.quiet = MetricsFile(path), every, rows, quiet
        self._since: tuple[int, float] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.file.start(trainer.global_step)
        self._since = (trainer.global_step, time.perf_counter())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        boundary = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if not boundary or (step % self.every and step != trainer.max_steps):
            return
        assert isinstance(pl_module, Harness)
        assert self._since is not None
        pl_module.check_finite()
        then, started = self._since
        now = time.perf_counter()
        rate = (step - then) * self.rows / max(1e-9, now - started)
        self._since = (step, now)
        values = _numbers(pl_module.last_output) | {"train/rows_per_second": rate, "train/lr": _lr(trainer)}
        self._tell(trainer, step, {name: Estimate(value, None, 1) for name, value in values.items()})
        left = (trainer.max_steps - step) * self.rows / max(rate, 1e-9)
        self._say(
            trainer, f"step {step}/{trainer.max_steps}  loss {values['train/loss']:.4f}  {rate:.0f} rows/s  {_clock(left)} left"
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit":
            return
        assert isinstance(pl_module, Harness)
        self._tell(trainer, trainer.global_step, pl_module.estimates)
        shown = "  ".join(f"{name.partition('/')[2]} {estimate}" for name, estimate in pl_module.estimates.items())
        self._say(trainer, f"validation at step {trainer.global_step}: {shown}")
        if self._since is not None:  # the time of a validation is not training time
            self._since = (trainer.global_step, time.perf_counter())

    def _tell(self, trainer: Trainer, step: int, values: dict[str, Estimate]) -> None:
        if trainer.is_global_zero:
            self.file.write(step, values)
        for logger in trainer.loggers:
            logger.log_metrics({name: estimate.value for name, estimate in values.items()}, step)

    def _say(self, trainer: Trainer, line: str) -> None:
        if trainer.is_global_zero and not self.quiet:
            print(line, file=sys.stderr, flush=True)


def _numbers(out: LossOutput) -> dict[str, float]:
    means = {name: ratio.total.sum() / ratio.count.sum().clamp(min=1e-12) for name, ratio in out.terms.items()}
    tensors = {**means, "loss": out.loss.detach()}
    return dict(
        zip((f"train/{name}" for name in tensors), torch.stack([t.float() for t in tensors.values()]).tolist(), strict=True)
    )


def _lr(trainer: Trainer) -> float:
    return float(trainer.optimizers[0].param_groups[0]["lr"])


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
