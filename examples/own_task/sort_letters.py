"""The task: what is asked of a row, and what the answer is. All else is said in data/sort_letters.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xlm_core.data.tokenizers import encode
from xlm_core.protocols import Tokenizer


def preprocess(rows: Mapping[str, Sequence[str]], tokenizer: Tokenizer) -> dict[str, list[list[int]]]:
    """The column `text`, a word a row, to ids of the question and of its answer."""
    words = [text.strip() for text in rows["text"]]
    return {"prompt_ids": encode(tokenizer, words), "input_ids": encode(tokenizer, ["".join(sorted(word)) for word in words])}
