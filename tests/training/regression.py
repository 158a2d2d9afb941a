"""The smallest family: weighted linear regression with dropout, on rows that are written down here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from xlm_core.config import CheckpointConfig, DataConfig, EmaConfig, OptimizerConfig, RunConfig, SchedulerConfig, TrainerConfig
from xlm_core.evaluation.metrics import nfe
from xlm_core.protocols import LossOutput, Prediction, Ratio
from xlm_core.training.harness import Harness

ROWS = 40


class Tokenizer:
    pad_token_id = 0

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        return " ".join(map(str, ids))


class Role(NamedTuple):
    name: str
    stage: str


def row(draw: int) -> dict[str, Tensor]:
    """Row `draw` of an endless stream; its weight says how many units it stands for."""
    random = torch.Generator().manual_seed(draw % ROWS)
    x = torch.randn(3, generator=random)
    return {
        "draw": torch.tensor(draw),
        "x": x,
        "y": x.sum() + torch.randn((), generator=random),
        "weight": torch.tensor(1.0 + draw % 5),
    }


class Rows(LightningDataModule):
    def __init__(self, batch_size: int, micro_batch_size: int, eval_batch_size: int = 7) -> None:
        super().__init__()
        self.batch_size, self.micro, self.eval_batch_size = batch_size, micro_batch_size, eval_batch_size
        self.start_step = 0

    def train_dataloader(self) -> DataLoader:
        def stream() -> Iterator[list[int]]:
            start = self.start_step * self.batch_size
            while True:
                yield list(range(start, start + self.micro))
                start += self.micro

        class Endless:
            def __iter__(self) -> Iterator[list[int]]:
                return stream()

        class Table:
            def __getitem__(self, draw: int) -> dict[str, Tensor]:
                return row(draw)

        return DataLoader(Table(), batch_sampler=Endless())  # type: ignore[arg-type]

    def val_dataloader(self) -> list[DataLoader]:
        rows = [row(draw) for draw in range(ROWS)]
        return [DataLoader(rows, batch_size=self.eval_batch_size) for _ in range(2)]  # type: ignore[arg-type]

    test_dataloader = val_dataloader

    def roles(self, split: str) -> list[Role]:
        return [Role("loss", "evaluate"), Role("prediction", "predict")]

    def state_dict(self) -> dict[str, int]:
        assert self.trainer is not None
        return {"step": self.trainer.global_step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.start_step = state_dict["step"]


class Loss:
    def __init__(self, model: nn.Module, poison_at: int | None = None) -> None:
        self.model, self.poison_at = model, poison_at

    def __call__(self, batch: dict[str, Tensor], *, seed: int) -> LossOutput:
        error = (self.model(batch["x"])[:, 0] - batch["y"]) ** 2
        if self.poison_at is not None and (batch["draw"] >= self.poison_at).any():
            error = error * float("nan")
        weight = batch["weight"]
        total = weight.sum()
        return LossOutput((error * weight).sum() / total, total, {"nll": Ratio((error * weight).detach(), weight)})


class Predictor:
    def predict(self, batch: dict[str, Tensor], *, seed: int, trace: bool = False) -> Prediction:
        return Prediction(batch["draw"][:, None] + 1, batch["draw"] % 3)


def make(folder: Path, *, dropout: float = 0.0, poison_at: int | None = None, lr: float = 0.05) -> Harness:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(dropout), nn.Linear(3, 1))
    return Harness(
        model,
        Loss(model, poison_at),
        Predictor(),
        Tokenizer(),  # type: ignore[arg-type]
        optimizer=OptimizerConfig(lr=lr, weight_decay=0.1),
        scheduler=SchedulerConfig(kind="cosine", warmup_steps=2),
        likelihood="bound",
        metrics=[nfe],
        folder=folder / "predictions",
        seed=3,
    )


def config(
    steps: int, batch: int, micro: int, *, ema: float = 0.0, every: int = 1000, eval_every: int = 0, **kept: int
) -> RunConfig:
    return RunConfig(
        data=DataConfig(name="rows", layout="lm", monitor="nll", monitor_mode="min"),
        trainer=TrainerConfig(
            max_steps=steps,
            batch_size=batch,
            micro_batch_size=micro,
            precision="fp32",
            accelerator="cpu",
            eval_every=eval_every,
        ),
        ema=EmaConfig(ema),
        checkpoint=CheckpointConfig(every=every, **kept),
    )
