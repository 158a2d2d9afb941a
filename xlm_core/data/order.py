"""Which row comes when: the endless training stream, its division into steps, ranks and micro-batches, and evaluation in order.

A *draw* is a place 0, 1, 2, ... in the training stream. What it holds depends on the seed alone, so any number of ranks,
workers or micro-batches trains on the same rows in the same steps, and training goes on at any step at no cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xlm_core.errors import ConfigError

Ints = NDArray[np.int64]
WINDOW = 64
"""Bucketing: rows are sorted by length among this many groups."""


class Order:
    """Maps draws to rows: every epoch has each row once, in an order of its own.

    Args:
        rows: how many there are.
        seed: of the order.
        shuffle: permute the rows of an epoch, each epoch anew.
        lengths: (rows,) tokens of each row. When given, draws n with equal n // group are of similar length: the shuffled rows
            are sorted by length inside windows of `WINDOW` groups, and the groups of an epoch are shuffled.
        group: draws of similar length; the micro-batch size.
    """

    def __init__(self, rows: int, seed: int, *, shuffle: bool = True, lengths: Ints | None = None, group: int = 1) -> None:
        self._rows = rows
        self._seed = seed
        self._shuffle = shuffle
        self._lengths = lengths
        self._group = group
        self._epochs: dict[int, Ints] = {}

    def __call__(self, draws: Ints) -> Ints:
        """(N,) rows of (N,) draws."""
        if not self._shuffle:
            return draws % self._rows
        epochs, places = np.divmod(draws, self._rows)
        rows = np.empty_like(draws)
        for epoch in np.unique(epochs).tolist():
            inside = epochs == epoch
            rows[inside] = self._epoch(epoch)[places[inside]]
        return rows

    def _epoch(self, epoch: int) -> Ints:
        if epoch not in self._epochs:
            kept = {number: order for number, order in self._epochs.items() if abs(number - epoch) <= 1}
            self._epochs = kept | {epoch: self._permutation(epoch)}
        return self._epochs[epoch]

    def _permutation(self, epoch: int) -> Ints:
        rng = np.random.default_rng([self._seed, epoch])
        rows = rng.permutation(np.arange(self._rows, dtype=np.min_scalar_type(self._rows)))  # small: each worker has one
        if self._lengths is None or self._group == 1:
            return rows
        # Groups are counted in draws, and an epoch need not begin at the start of one: `head` rows fill up the last epoch's.
        head = -epoch * self._rows % self._group
        groups = (self._rows - head) // self._group
        if groups < 1:
            return rows
        tail = head + groups * self._group
        window = np.arange(groups * self._group) // (WINDOW * self._group)
        body = rows[head:tail][np.lexsort((self._lengths[rows[head:tail]], window))].reshape(groups, self._group)
        return np.concatenate([rows[:head], rng.permutation(body).ravel(), rows[tail:]])


@dataclass(frozen=True)
class Division:
    """How a global batch is divided: `count` micro-batches of `size` rows on each rank."""

    size: int
    count: int

    @classmethod
    def of(cls, batch_size: int, micro_batch_size: int, world: int) -> Division:
        """As few micro-batches of at most `micro_batch_size` rows as there can be, all of them equal.

        Raises:
            ConfigError: the batch does not divide so.
        """
        if min(batch_size, micro_batch_size) < 1:
            raise ConfigError("trainer.batch_size and trainer.micro_batch_size have to be positive", "Set both to 1 or more.")
        count = -(-batch_size // (micro_batch_size * world))
        size, rest = divmod(batch_size, world * count)
        if rest:
            nearest = [str(edge * world * count) for edge in (size, size + 1) if edge]
            message = (
                f"trainer.batch_size={batch_size} does not divide into equal micro-batches of at most {micro_batch_size} rows"
            )
            raise ConfigError(f"{message} on {world} ranks", f"Set trainer.batch_size to {' or '.join(nearest)}.")
        return cls(size, count)

    def first_draw(self, number: int, rank: int, world: int) -> int:
        """The draw that begins micro-batch `number` of a rank, counted from the start of training.

        Micro-batch j of step b is number b * count + j, and a step's micro-batches fill up its draws on all ranks together.
        """
        return (number * world + rank) * self.size


@dataclass(frozen=True)
class BatchStream:
    """The micro-batches of one rank as lists of draws, without end.

    Step b trains on the draws [b * batch_size, (b + 1) * batch_size), whatever the number of ranks and the micro-batch size.
    """

    batch_size: int
    micro_batch_size: int
    rank: int = 0
    world: int = 1
    start_step: int = 0

    @property
    def division(self) -> Division:
        return Division.of(self.batch_size, self.micro_batch_size, self.world)

    def __iter__(self) -> Iterator[list[int]]:
        division = self.division
        number = self.start_step * division.count
        while True:
            first = division.first_draw(number, self.rank, self.world)
            yield list(range(first, first + division.size))
            number += 1


@dataclass(frozen=True)
class EvaluationBatches:
    """Rows rank, rank + world, ... in batches of about equal size: each row once over all ranks.

    Ranks have the same number of batches where there are rows enough: a model that is sharded over them computes in step. With
    a batch size of 1 and rows that do not divide, that takes a batch of 2.
    """

    rows: int
    batch_size: int
    rank: int = 0
    world: int = 1

    def __len__(self) -> int:
        own = len(range(self.rank, self.rows, self.world))
        most = -(-self.rows // self.world)
        return min(-(-most // self.batch_size), max(self.rows // self.world, 1), own)

    def __iter__(self) -> Iterator[list[int]]:
        own = np.arange(self.rank, self.rows, self.world)
        if len(self):
            for batch in np.array_split(own, len(self)):
                yield batch.tolist()
