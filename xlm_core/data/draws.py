"""Prepared rows as examples: views of the memory-mapped files, fetched a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import cast

import numpy as np
import pyarrow as pa
from datasets import Dataset
from numpy.typing import NDArray

from xlm_core.data.order import Order
from xlm_core.protocols import Example


class Column:
    """A column of lists in however many chunks, read without copying more than the rows that are asked for."""

    def __init__(self, chunks: pa.ChunkedArray) -> None:
        self._chunks = [chunk for chunk in chunks.chunks if len(chunk)]
        self._starts = np.cumsum([0, *map(len, self._chunks)])
        self._views: dict[int, tuple[NDArray, NDArray]] = {}

    def _view(self, chunk: int) -> tuple[NDArray, NDArray]:
        if chunk not in self._views:
            lists = self._chunks[chunk]
            self._views[chunk] = lists.values.to_numpy(), lists.offsets.to_numpy()
        return self._views[chunk]

    def lists(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """The rows' lists as int64 arrays of their own."""
        chunks = np.searchsorted(self._starts, rows, side="right") - 1
        for chunk, place in zip(chunks.tolist(), (rows - self._starts[chunks]).tolist(), strict=True):
            values, offsets = self._view(chunk)
            yield values[offsets[place] : offsets[place + 1]].astype(np.int64)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(rows,) int64."""
        return np.concatenate([np.diff(chunk.offsets.to_numpy()).astype(np.int64) for chunk in self._chunks])


class Draws:
    """A map-style data set whose items are draws.

    Args:
        dataset: prepared rows.
        order: maps draws to rows; None for draw n to be row n.
    """

    def __init__(self, dataset: Dataset, order: Order | None = None) -> None:
        self._dataset = dataset.flatten_indices() if dataset._indices is not None else dataset
        self._order = order

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key != "_columns"}

    @cached_property
    def _columns(self) -> dict[str, Column]:
        table = self._dataset.data
        return {name: Column(table.column(name)) for name in self._dataset.column_names}

    def __len__(self) -> int:
        """Rows. With an order there are draws without end."""
        return len(self._dataset)

    def __getitem__(self, draw: int) -> Example:
        return self.__getitems__([draw])[0]

    def __getitems__(self, draws: Sequence[int]) -> list[Example]:
        places = np.asarray(draws, np.int64)
        rows = self._order(places) if self._order else places
        columns = (column.lists(rows) for column in self._columns.values())
        names = ("draw", *self._columns)
        return [cast(Example, dict(zip(names, row, strict=True))) for row in zip(draws, *columns, strict=True)]

    def lengths(self) -> NDArray[np.int64]:
        """(rows,) int64: tokens of each row in all columns of ids."""
        total = np.zeros(len(self), np.int64)
        for name, column in self._columns.items():
            total += 0 if name == "segment_ids" else column.lengths
        return total
