"""The one LightningModule: it holds the four parts, delegates, and knows no family."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from xlm_core.config import OptimizerConfig, SchedulerConfig
from xlm_core.errors import XlmError
from xlm_core.evaluation import ranks
from xlm_core.evaluation.metrics import Metric
from xlm_core.evaluation.predictions import PredictionWriter, join, rows
from xlm_core.evaluation.statistics import Estimate, RatioMeter
from xlm_core.protocols import Batch, Likelihood, Loss, LossOutput, Model, Predictor, Ratio, Tokenizer
from xlm_core.training import optimizer


class Harness(LightningModule):
    """Trains with the loss; evaluates with the loss or the predictor, as each loader's role says.

    Args:
        likelihood: what the loss's `nll` term is.
        metrics: measured on predictions.
        folder: where predictions are written.
        seed: of all noise, with the draw numbers of rows.
        traces: store the event log of every prediction.
    """

    def __init__(
        self,
        model: Model,
        loss: Loss,
        predictor: Predictor,
        tokenizer: Tokenizer,
        *,
        optimizer: OptimizerConfig,
        scheduler: SchedulerConfig,
        likelihood: Likelihood,
        metrics: Sequence[Metric],
        folder: Path,
        seed: int,
        traces: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.loss, self.predictor, self.tokenizer = model, loss, predictor, tokenizer
        self.optimizer_config, self.scheduler_config = optimizer, scheduler
        self.likelihood, self.metrics, self.folder = likelihood, metrics, folder
        self.seed, self.traces = seed, traces
        self.estimates: dict[str, Estimate] = {}
        """The results of the last evaluation."""
        self.predictions: list[Path] = []
        """The files that it wrote."""
        self.weights_step: int | None = None
        """The step that loaded weights are from, where they do not come from this trainer."""
        self._meters: dict[str, RatioMeter] = {}
        self._writers: dict[str, PredictionWriter] = {}
        self._job = 0
        self._weight: Tensor | None = None
        self._finite: Tensor | None = None

    # Training

    def configure_optimizers(self) -> Any:
        adamw = optimizer.adamw(self, self.optimizer_config)
        scheduler = optimizer.lambda_lr(adamw, self.scheduler_config, self.trainer.max_steps)
        return {"optimizer": adamw, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Dropout is a function of (seed, step, rank) like all other noise, so resuming needs no generator state.
        torch.manual_seed(hash((self.seed, batch_idx, self.global_rank)) % (1 << 62))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        out = self.loss(batch, seed=self.seed)
        finite = torch.isfinite(out.loss.detach())
        self._finite = finite if self._finite is None else self._finite & finite
        self.last_output = out
        if not self._averages:
            return out.loss
        weight = out.weight.detach().float()
        self._weight = weight if self._weight is None else self._weight + weight
        return out.loss * weight

    @property
    def _averages(self) -> bool:
        return self.trainer.accumulate_grad_batches > 1 or self.trainer.world_size > 1

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Turn the gradient of a sum of weighted losses into that of the mean over all units of all micro-batches and ranks.

        Lightning has divided by the number of micro-batches, and the strategy by the number of ranks.
        """
        if self._weight is None:
            return
        total = self.trainer.strategy.reduce(self._weight, reduce_op="sum")
        factor = self.trainer.accumulate_grad_batches * self.trainer.world_size / total.clamp(min=1e-12)
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        torch._foreach_mul_(grads, factor)
        self._weight = None

    def check_finite(self) -> None:
        """Raise if a loss since the last call was NaN or infinite. Called where the host waits for the device anyway."""
        if self._finite is not None and not bool(self._finite):
            raise XlmError(
                f"the training loss became NaN or infinite before step {self.global_step}",
                "Lower optimizer.lr or trainer.clip_norm; debug=anomaly finds the operation. The last checkpoint is sound.",
            )
        self._finite = None

    # Evaluation

    def on_validation_epoch_start(self) -> None:
        self._start("validation")

    def on_test_epoch_start(self) -> None:
        self._start("test")

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate(batch, "validation", dataloader_idx)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate(batch, "test", dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        self._finish("validation")

    def on_test_epoch_end(self) -> None:
        self._finish("test")

    def _start(self, split: str) -> None:
        self._meters.clear()
        names = [role.name for role in self._roles(split) if role.stage == "predict"]
        self._job = self.trainer.strategy.broadcast(os.getpid())
        self._writers = {name: PredictionWriter(self._path(split, name), self._job, self.global_rank) for name in names}

    def _roles(self, split: str) -> Sequence[Any]:
        return self.trainer.datamodule.roles(split)  # type: ignore[attr-defined, no-any-return]

    def _evaluate(self, batch: Batch, split: str, loader: int) -> None:
        role = self._roles(split)[loader]
        if role.stage == "evaluate":
            terms = dict(_terms(self.loss(batch, seed=self.seed)))
            if "bytes" in batch and "nll" in terms:
                terms["nats_per_byte"] = Ratio(terms["nll"].total, batch["bytes"])
            self._measure(split, terms)
            return
        prediction = self.predictor.predict(batch, seed=self.seed, trace=self.traces)
        terms = {k: v for metric in self.metrics for k, v in metric(prediction, batch, self.tokenizer).items()}
        self._measure(split, terms)
        self._writers[role.name].write(rows(batch, prediction, self.tokenizer, terms))

    def _path(self, split: str, name: str) -> Path:
        step = self.global_step if self.weights_step is None else self.weights_step
        return self.folder / f"{split}_{name}_step{step:07d}.jsonl"

    def _measure(self, split: str, terms: Mapping[str, Ratio]) -> None:
        for name, ratio in terms.items():
            self._meters.setdefault(f"{split}/{name}", RatioMeter()).update(ratio)

    def _finish(self, split: str) -> None:
        """Join what the ranks measured and wrote, and log it."""
        self.estimates = dict(self._joined())
        ranks.together(self._close)
        ranks.first(self._join)
        self.predictions = [writer.path for writer in self._writers.values()]
        self._writers.clear()

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _join(self) -> None:
        for writer in self._writers.values():
            join(writer.path, self._job, self.trainer.world_size)

    def _joined(self) -> Iterator[tuple[str, Estimate]]:
        for name in self._names():
            meter = self._meters.get(name, RatioMeter())
            state = self.trainer.strategy.reduce(meter.state(self.device), reduce_op="sum")
            estimate = meter.estimate(state)  # type: ignore[arg-type]
            if estimate is not None:
                yield from self._named(name, estimate)

    def _names(self) -> list[str]:
        """What was measured on any rank: one with no rows must still take part in every sum."""
        if self.trainer.world_size == 1:
            return list(self._meters)
        everyone: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(everyone, list(self._meters))
        return sorted({name for names in everyone for name in names})

    def _named(self, name: str, estimate: Estimate) -> Iterator[tuple[str, Estimate]]:
        """An estimate, or what it is reported as: likelihoods say whether they are a bound."""
        prefix, _, term = name.rpartition("/")
        suffix = "_bound" if self.likelihood == "bound" else ""
        if term == "nats_per_byte":
            yield f"{prefix}/bits_per_byte{suffix}", estimate.scaled(1 / math.log(2))
            return
        yield name, estimate
        if term == "nll":
            yield f"{prefix}/perplexity{suffix}", estimate.exp()
            yield f"{prefix}/bits_per_token{suffix}", estimate.scaled(1 / math.log(2))


def _terms(out: LossOutput) -> Mapping[str, Ratio]:
    if "loss" in out.terms:
        return out.terms
    weight = out.weight.detach()[None]
    return {"loss": Ratio(out.loss.detach()[None] * weight, weight), **out.terms}
