"""The data of a run: prepared once, loaded by every rank."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from torch.utils.data import DataLoader

from xlm_core.data import sources, store
from xlm_core.data.draws import Draws
from xlm_core.data.order import BatchStream, Division, EvaluationBatches, Order
from xlm_core.data.policy import policy
from xlm_core.data.preprocessing import Preprocessing
from xlm_core.data.streaming import StreamedBatches
from xlm_core.errors import ConfigError

if TYPE_CHECKING:
    from xlm_core.config import DataConfig, DebugConfig
    from xlm_core.protocols import Collator, Example, Stage, Tokenizer

Loader: TypeAlias = DataLoader[Any]


@dataclass(frozen=True)
class LoaderRole:
    """What the batches of a loader are for."""

    name: str
    """loss or prediction."""
    stage: Stage


class Loaders:
    """Loaders of a data set for a family's collators.

    The `draw` of an example is its place in the training stream, or its row number in evaluation.

    Args:
        config: the data set.
        tokenizer: turns its text into ids.
        collate: the family's collator for each stage.
        batch_size: rows of an optimiser step, over all ranks.
        micro_batch_size: most rows that a rank trains on at once.
        eval_batch_size: most rows that a rank evaluates or decodes at once.
        seed: of the order of training rows.
        debug: `rows` and `overfit` are read.
        cache: folder of prepared data; `store.cache_root()` when not given.
        progress: called as (split, rows done, rows in all) while data are prepared.

    Raises:
        ConfigError: options that do not go together.
    """

    start_step: int = 0
    """The optimiser step that training begins at. Set it before the training loader is made."""

    def __init__(
        self,
        config: DataConfig,
        tokenizer: Tokenizer,
        collate: Callable[[Stage], Collator],
        *,
        batch_size: int,
        micro_batch_size: int,
        eval_batch_size: int,
        seed: int,
        debug: DebugConfig,
        cache: Path | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self._config = _limited(config, debug)
        self._tokenizer = tokenizer
        self._collate = collate
        self._batch_size = batch_size
        self._micro_batch_size = micro_batch_size
        self._eval_batch_size = eval_batch_size
        self._seed = seed
        self._debug = debug
        self._cache = cache
        self._progress = progress
        self._sets: dict[str, Dataset] = {}
        _check(self._config)

    def prepare(self) -> None:
        """Prepare every split on disk. One process of each machine does."""
        self.open(*self._config.splits)

    def open(self, *splits: str) -> None:
        """Open those of these splits that there are, preparing what is not."""
        for split in splits:
            if split in self._config.splits and not (split == "train" and self._streams):
                self._set(split)

    def training(self, rank: int = 0, world: int = 1) -> Loader | list[Loader]:
        """A rank's micro-batches without end, from `start_step` on; no loader where there is nothing to train on."""
        if "train" not in self._config.splits:
            return []
        division = Division.of(self._batch_size, self._micro_batch_size, world)
        if self._streams:
            rows = cast(IterableDataset, sources.open_split(self._config, "train", streaming=True))
            preprocessing, config = Preprocessing(self._config, self._tokenizer, "train"), self._config
            stream = StreamedBatches(
                rows, preprocessing, division, config.workers, self._seed, config.shuffle_buffer, rank, world, self.start_step
            )
            return self._loader(stream, "train", config.workers, batch_size=None)
        batches = BatchStream(self._batch_size, self._micro_batch_size, rank, world, self.start_step)
        return self._loader(self._training_draws(), "train", self._config.workers, batch_sampler=batches)

    def evaluation(self, split: str, rank: int = 0, world: int = 1) -> list[Loader]:
        """A rank's loaders of a split, one for each of its roles."""
        return [self._evaluation_loader(split, role, rank, world) for role in self.roles(split)]

    def roles(self, split: str) -> list[LoaderRole]:
        """What each loader of a split is for, in the order of the loaders."""
        if split not in self._config.splits:
            return []
        loss, prediction = LoaderRole("loss", "evaluate"), LoaderRole("prediction", "predict")
        return [loss, prediction] if self._config.predict.get(split, 0) else [loss]

    def loader(self, examples: Sequence[Example], stage: Stage, rank: int = 0, world: int = 1) -> Loader:
        """A loader of examples in their order; draw n is the n-th of them."""
        numbered = [cast("Example", {**example, "draw": draw}) for draw, example in enumerate(examples)]
        return self._in_order(numbered, len(numbered), stage, 0, rank, world)

    def examples(self, split: str) -> Draws:
        """The prepared rows of a split, as its loaders see them; item n is row n."""
        return Draws(self._set(split))

    def manifest(self, split: str) -> dict[str, Any] | None:
        """What `store.manifest` says of a split as it is prepared for these loaders."""
        return store.manifest(self._config, self._tokenizer, self._named(split), cache=self._cache)

    def policy(self, split: str, specials: Sequence[str], *, exact_bytes: bool) -> dict[str, Any]:
        """What is done to the text of a split: see `xlm_core.data.policy`."""
        read = (self.manifest(split) or {}).get("revision")
        return policy(self._config, self._tokenizer, self._named(split), specials, exact_bytes=exact_bytes, revision=read)

    @property
    def _streams(self) -> bool:
        return self._config.streaming and not self._debug.overfit

    def _named(self, split: str) -> str:
        return "train" if self._debug.overfit else split

    def _set(self, split: str) -> Dataset:
        name = self._named(split)
        if name not in self._sets:
            progress = partial(self._progress, name) if self._progress else None
            rows = store.prepare(self._config, self._tokenizer, name, cache=self._cache, progress=progress)
            most = len(rows) if self._debug.rows is None else min(self._debug.rows, len(rows))
            self._sets[name] = rows.select(range(most))
        return self._sets[name]

    def _training_draws(self) -> Draws:
        rows = self._set("train")
        lengths = Draws(rows).lengths() if self._config.bucketing and not self._config.packing else None
        group = Division.of(self._batch_size, self._micro_batch_size, 1).size
        order = Order(len(rows), self._seed, lengths=lengths, group=group)
        order(np.array([self.start_step * self._batch_size]))  # before workers are forked, which then share it
        return Draws(rows, order)

    def _evaluation_loader(self, split: str, role: LoaderRole, *place: int) -> Loader:
        if role.stage == "evaluate":
            rows = self._set(split)
            return self._in_order(Draws(rows), len(rows), role.stage, self._config.workers, *place)
        wanted = self._config.predict[split]
        if self._config.layout == "lm":
            return self.loader([{"input_ids": []}] * min(wanted, self._debug.rows or wanted), role.stage, *place)
        rows = self._set(split)
        return self._in_order(Draws(rows), len(rows) if wanted < 0 else min(wanted, len(rows)), role.stage, 0, *place)

    def _in_order(
        self, examples: Sequence[Example] | Draws, count: int, stage: Stage, workers: int, rank: int, world: int
    ) -> Loader:
        batches = EvaluationBatches(count, self._eval_batch_size, rank, world)
        return self._loader(examples, stage, workers, batch_sampler=batches)

    def _loader(self, dataset: Any, stage: Stage, workers: int, **batching: Any) -> Loader:
        if workers:
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a fork would warn
        return DataLoader(
            dataset,
            collate_fn=self._collate(stage),
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            **batching,
        )


def _limited(config: DataConfig, debug: DebugConfig) -> DataConfig:
    """The config with `debug.rows` on every split, so that no more than those are prepared."""
    if debug.rows is None:
        return config
    most = debug.rows
    splits = {name: replace(split, rows=min(most, split.rows or most)) for name, split in config.splits.items()}
    return replace(config, splits=splits)


def _check(config: DataConfig) -> None:
    if config.streaming and config.bucketing:
        raise ConfigError("a stream cannot be put into buckets of similar length", "Set data.bucketing=false.")
    for split, count in config.predict.items():
        if config.layout == "lm" and count < 0:
            raise ConfigError(f"data.predict.{split} is {count}", "Samples come from nothing: say how many to draw.")
