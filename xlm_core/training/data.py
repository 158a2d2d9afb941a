"""The loaders of a run as Lightning calls for them."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningDataModule

from xlm_core.data.loaders import LoaderRole, Loaders

READ = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",)}
"""The splits that a stage reads."""


class DataModule(LightningDataModule):
    """Prepares on one process of each machine, and gives every rank its part."""

    def __init__(self, loaders: Loaders) -> None:
        super().__init__()
        self.loaders = loaders

    def prepare_data(self) -> None:
        self.loaders.prepare()

    def setup(self, stage: str) -> None:
        self.loaders.open(*READ.get(stage, ()))

    def train_dataloader(self) -> Any:
        return self.loaders.training(*self._place)

    def val_dataloader(self) -> Any:
        return self.loaders.evaluation("validation", *self._place)

    def test_dataloader(self) -> Any:
        return self.loaders.evaluation("test", *self._place)

    def roles(self, split: str) -> list[LoaderRole]:
        return self.loaders.roles(split)

    @property
    def _place(self) -> tuple[int, int]:
        """Rank and how many there are."""
        assert self.trainer is not None
        return self.trainer.global_rank, self.trainer.world_size
