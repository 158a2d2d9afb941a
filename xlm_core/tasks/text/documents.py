"""Documents to ids. Which pieces of a file are documents is the source's business: `data.source.arguments.sample_by`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer


def preprocess(rows: Mapping[str, Sequence[str]], tokenizer: Tokenizer, column: str = "text") -> dict[str, list[list[int]]]:
    """The ids of each row's text.

    Args:
        rows: columns of raw rows.
        tokenizer: turns text into ids.
        column: the one that holds the text.
    """
    from xlm_core.data.tokenizers import encode

    return {"input_ids": encode(tokenizer, rows[column])}
