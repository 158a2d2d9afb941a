"""How much text a row is, in bytes: the unit in which models with different tokenizers can be compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from xlm_core.protocols import Batch, Collator, Example, Tokenizer


class TextBytes:
    """Counts the bytes of UTF-8 text that ids stand for. Special tokens, UNK among them, stand for none.

    Where every id stands for the same bytes wherever it is (byte-level and character tokenizers), they are added up: that is
    the text as it was, and rows that cut a text, or a character, add up to the whole. Otherwise they are those of the decoded
    row, which may differ from the text in case, accents and spaces.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._table = _table(tokenizer)

    @property
    def exact(self) -> bool:
        """Whether they are the bytes of the text itself, as far as it has no UNK."""
        return self._table is not None

    def __call__(self, ids: Sequence[int]) -> int:
        if self._table is None:
            return len(str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).encode())
        return int(self._table[np.asarray(ids, np.int64)].sum())


@dataclass(frozen=True)
class WithBytes:
    """A family's `evaluate` collator whose batches also hold `bytes`, those of the examples' `input_ids`."""

    collate: Collator
    count: TextBytes

    def __call__(self, examples: Sequence[Example]) -> Batch:
        counts = [self.count(example["input_ids"]) for example in examples]
        return {**self.collate(examples), "bytes": torch.tensor(counts, dtype=torch.float64)}


def _table(tokenizer: Tokenizer) -> NDArray[np.int64] | None:
    """(V,) int64: bytes of each id; None where they depend on the neighbours."""
    decoder = (json.loads(tokenizer.backend_tokenizer.to_str())["decoder"] or {}).get("type")
    if decoder not in ("ByteLevel", "Fuse"):
        return None
    added = tokenizer.get_added_vocab()
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    # A byte-level token is written with one printable character a byte.
    plain = decoder == "ByteLevel"
    table = np.array([len(token) if plain and token not in added else len(token.encode()) for token in tokens], np.int64)
    table[tokenizer.all_special_ids] = 0
    return table
