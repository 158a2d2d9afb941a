"""Rows of ids of different lengths in one flat array, so that nothing is done a row at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ragged:
    """R rows: row r is `values[offsets[r] : offsets[r + 1]]`."""

    values: NDArray[np.int64]
    """(N,) int64."""
    offsets: NDArray[np.int64]
    """(R + 1,) int64, from 0 to N."""

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Ragged:
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return cls(np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum())), offsets_of(lengths))

    @classmethod
    def from_arrow(cls, rows: pa.ListArray) -> Ragged:
        offsets = rows.offsets.to_numpy().astype(np.int64)
        return cls(rows.values.to_numpy()[offsets[0] : offsets[-1]].astype(np.int64), offsets - offsets[0])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(R,) int64."""
        return np.diff(self.offsets)

    def rows(self) -> list[NDArray[np.int64]]:
        """Each row, as a view."""
        return [self.values[start:stop] for start, stop in pairwise(self.offsets.tolist())]

    def tolist(self) -> list[list[int]]:
        values = self.values.tolist()
        return [values[start:stop] for start, stop in pairwise(self.offsets.tolist())]

    def followed_by(self, other: Ragged) -> Ragged:
        """These rows and then those."""
        offsets = np.concatenate([self.offsets, self.offsets[-1] + other.offsets[1:]])
        return Ragged(np.concatenate([self.values, other.values]), offsets)

    def pick(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Ragged:
        """The spans of `values` of those lengths that begin at `starts`, as rows."""
        offsets = offsets_of(lengths)
        return Ragged(self.values[np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)], offsets)

    def cut(self, width: int, *, from_end: bool = False) -> Ragged:
        """Each row's first, or last, `width` ids."""
        lengths = np.minimum(self.lengths, width)
        return self.pick(self.offsets[1:] - lengths if from_end else self.offsets[:-1], lengths)

    def pieces(self, width: int) -> Ragged:
        """Each row as consecutive rows of `width` ids, the last of them shorter. An empty row stays one."""
        counts = np.maximum(-(-self.lengths // width), 1)
        inside = np.arange(counts.sum()) - np.repeat(offsets_of(counts)[:-1], counts)
        starts = np.repeat(self.offsets[:-1], counts) + inside * width
        return self.pick(starts, np.minimum(np.repeat(self.offsets[1:], counts) - starts, width))

    def to_arrow(self, dtype: pa.DataType) -> pa.ListArray:
        return pa.ListArray.from_arrays(pa.array(self.offsets, pa.int32()), pa.array(self.values, dtype))


def offsets_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """(R + 1,) int64: where rows of those lengths begin and end."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
