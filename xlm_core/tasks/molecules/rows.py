"""Molecules of a text column to ids, in the notation that is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from xlm_core.errors import DataError
from xlm_core.tasks.molecules.bracket import bracketed

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer


def preprocess(
    rows: Mapping[str, Sequence[str]], tokenizer: Tokenizer, column: str = "safe", cut: bool = False, seed: int | None = None
) -> dict[str, list[list[int]]]:
    """The ids of each row's molecule in bracket SAFE.

    Args:
        rows: columns of raw rows.
        tokenizer: turns text into ids.
        column: the one that holds molecules in SAFE, or with `cut` in SMILES or SAFE.
        cut: cut each molecule into fragments anew, which needs rdkit; otherwise the fragments stay as they are written.
        seed: of `cut`: the order of fragments and atoms is a function of (seed, text), and canonical when not given.

    Raises:
        DataError: a text that cannot be read, or a seed without `cut`.
    """
    from xlm_core.data.tokenizers import encode

    if cut:
        from xlm_core.tasks.molecules import chemistry

        return {"input_ids": encode(tokenizer, [chemistry.safe(text, seed) for text in rows[column]])}
    if seed is not None:
        raise DataError("there is no order to draw where molecules are not cut anew", "Set data.arguments.cut=true.")
    return {"input_ids": encode(tokenizer, [bracketed(text) for text in rows[column]])}
