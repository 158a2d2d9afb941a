"""Sequences of residues to ids, long ones to one piece of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer


def preprocess(
    rows: Mapping[str, Sequence[str]], tokenizer: Tokenizer, column: str = "seq", crop: int | None = None, seed: int = 0
) -> dict[str, list[list[int]]]:
    """The ids of each row's sequence.

    Args:
        rows: columns of raw rows.
        tokenizer: turns letters into ids.
        column: the one that holds the sequences.
        crop: of a sequence with more tokens, so many in a row are taken; none are left out when not given.
        seed: where a piece begins is uniform over all places, and a function of (seed, sequence).
    """
    from xlm_core.data.tokenizers import encode

    sequences = rows[column]
    ids = encode(tokenizer, sequences)
    if crop is not None:
        ids = [_piece(row, crop, f"{seed} {sequence}") for row, sequence in zip(ids, sequences, strict=True)]
    return {"input_ids": ids}


def _piece(ids: list[int], width: int, key: str) -> list[int]:
    if len(ids) <= width:
        return ids
    # 64 bits for at most some ten thousand places: the modulus favours none to speak of.
    number = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")
    first = number % (len(ids) - width + 1)
    return ids[first : first + width]
