"""Packing: documents joined into rows of equal length, with the boundaries kept."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xlm_core.data.ragged import Ragged

Ids = NDArray[np.int64]


class Packed(NamedTuple):
    """R rows of W tokens."""

    input_ids: Ids
    """(R, W) int64."""
    segment_ids: Ids
    """(R, W) int64: 0 in the first document of the row, 1 in the next, and so on. EOS is in the document that it closes."""


class Packer:
    """Closes each document with EOS and cuts the stream of documents into rows.

    What does not fill a row is kept for the next batch of documents, so no token is lost, however the documents arrive.

    Args:
        length: tokens of a row.
        eos: id of the EOS token.
    """

    def __init__(self, length: int, eos: int) -> None:
        self._length = length
        self._eos = eos
        self._tokens: Ids = np.zeros(0, np.int64)
        self._documents: Ids = np.zeros(0, np.int64)  # a running number for each waiting token

    def add(self, documents: Ragged) -> Packed:
        """The rows that are now full."""
        tokens = np.insert(documents.values, documents.offsets[1:], self._eos)
        first = self._documents[-1] + 1 if len(self._documents) else 0
        numbers = np.repeat(np.arange(first, first + len(documents)), documents.lengths + 1)
        self._tokens = np.concatenate([self._tokens, tokens])
        self._documents = np.concatenate([self._documents, numbers])
        return self._rows(len(self._tokens) // self._length, self._length)

    def flush(self) -> Packed:
        """The row that is left: shorter than the others, or no row."""
        return self._rows(min(len(self._tokens), 1), len(self._tokens))

    def _rows(self, rows: int, width: int) -> Packed:
        used = rows * width
        tokens, documents = self._tokens[:used].reshape(rows, width), self._documents[:used].reshape(rows, width)
        self._tokens, self._documents = self._tokens[used:], self._documents[used:]
        return Packed(tokens, documents - documents[:, :1])
