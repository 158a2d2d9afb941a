"""Fragments and the molecules that they are of, to ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from xlm_core.errors import DataError
from xlm_core.tasks.molecules.safe import opened

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer

TASKS = ("linker_design", "motif_extension", "scaffold_decoration", "superstructure_generation")


def preprocess_fragments(
    rows: Mapping[str, Sequence[str]], tokenizer: Tokenizer, task: str, samples: int = 1
) -> dict[str, list[list[int]]]:
    """The prompt is the fragment in SAFE and a dot, behind which the rest of the molecule belongs; the target is the molecule.

    Args:
        rows: `smiles` of the whole molecules, and a column of fragments for each task.
        tokenizer: turns text into ids.
        task: one of `TASKS`.
        samples: how many times each row is made, one after the other.
    """
    from xlm_core.data.tokenizers import encode

    if task not in rows or task not in TASKS:
        raise DataError(f"there are no fragments for the task {task!r}", f"data.arguments.task is one of {', '.join(TASKS)}.")
    columns = {"prompt_ids": [f"{opened(fragment)}." for fragment in rows[task]], "input_ids": list(rows["smiles"])}
    return {
        name: [ids for ids in encode(tokenizer, texts) for _ in range(samples)]  # one list serves all of a row's samples
        for name, texts in columns.items()
    }
