"""Boards: rows of numbers, one token each, some of which are given (layout infill).

Several answers may be right, so what counts is that the rules hold and that what was given is still in its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from xlm_core.errors import ConfigError, DataError
from xlm_core.protocols import Batch, Prediction, Ratio

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer

Numbers = NDArray[Any]
"""Of any integer type."""


def column(values: Numbers) -> pa.ListArray:
    """(R, L) numbers as R lists of L."""
    offsets = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()))


def number_ids(tokenizer: Tokenizer, size: int) -> NDArray[np.int64]:
    """(size,) int64: the ids of "0" to "size - 1".

    Raises:
        DataError: one of them is not a token of its own.
    """
    from xlm_core.data.tokenizers import encode

    ids = encode(tokenizer, [str(number) for number in range(size)])
    if any(len(one) != 1 or one[0] == tokenizer.unk_token_id for one in ids):
        hint = f"Use tokenizer=numbers tokenizer.size={size}."
        raise DataError(f"the numbers 0 to {size - 1} are not all tokens of the tokenizer", hint)
    return np.array(ids, np.int64)[:, 0]


def infilling(values: Numbers, given: NDArray[np.bool_], tokenizer: Tokenizer, size: int) -> dict[str, list[list[int]]]:
    """Columns of the layout infill: the mask token stands wherever a number is not given.

    Args:
        values: (R, L) numbers below `size`.
        given: (R, L).
    """
    ids = number_ids(tokenizer, size)[values]
    return {"prompt_ids": np.where(given, ids, tokenizer.mask_token_id).tolist(), "input_ids": ids.tolist()}


def numbers(ids: Tensor, tokenizer: Tokenizer, size: int) -> Tensor:
    """(B, L) ids to numbers below `size`; -1 for any other token."""
    table = torch.full((len(tokenizer),), -1, device=ids.device)
    table[torch.from_numpy(number_ids(tokenizer, size)).to(ids.device)] = torch.arange(size, device=ids.device)
    return table[ids]


def prompts(batch: Batch) -> Tensor:
    """(B, L) int64: what was asked, with the mask token at holes.

    Raises:
        ConfigError: nothing was.
    """
    if "prompt_ids" not in batch:
        raise ConfigError("a metric looks at the prompt, but the data have none", "Take it out of data.metrics.")
    return batch["prompt_ids"]


def filled(prediction: Prediction, batch: Batch, tokenizer: Tokenizer, size: int) -> tuple[Tensor, Tensor]:
    """The boards that were decoded. Those of a batch have one size.

    Returns:
        (B, L) int64 numbers, -1 where there is none, and (B,) bool: it has just L tokens, and all that was given in its place.
    """
    asked = prompts(batch)
    width, pad_id = asked.shape[1], tokenizer.pad_token_id
    ids = torch.nn.functional.pad(prediction.ids, (0, max(0, width - prediction.ids.shape[1])), value=pad_id)
    cells = ids[:, :width]
    kept = ((cells == asked) | (asked == tokenizer.mask_token_id)).all(-1) & ((ids != pad_id).sum(-1) == width)
    return numbers(cells, tokenizer, size), kept


def share(hit: Tensor) -> Ratio:
    """Of rows. `hit` is (B,) bool."""
    return Ratio(hit.double(), torch.ones_like(hit, dtype=torch.float64))
