"""Fragments and the molecules that they are of, to ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from xlm_core.errors import DataError
from xlm_core.tasks.molecules.bracket import bracketed
from xlm_core.tasks.molecules.safe import opened

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer

TASKS = ("linker_design", "motif_extension", "scaffold_decoration", "superstructure_generation", "scaffold_morphing")
COLUMNS = {"scaffold_morphing": "linker_design"}
"""Morphing replaces what is between the same ends that a linker is designed for."""


def preprocess_fragments(
    rows: Mapping[str, Sequence[str]], tokenizer: Tokenizer, task: str, samples: int = 1, bracket: bool = False, seed: int = 0
) -> dict[str, list[list[int]]]:
    """The prompt is the fragment in SAFE and a dot, behind which the rest of the molecule belongs; the target is the molecule.

    Args:
        rows: `smiles` of the whole molecules, and a column of fragments for each task.
        tokenizer: turns text into ids.
        task: one of `TASKS`.
        samples: how many times each row is made, one after the other.
        bracket: write open bonds as labels, for a model that was trained on bracket SAFE.
        seed: of `superstructure_generation`: a fragment without an open bond gets up to three, at places that are a function of
            (seed, fragment, sample). This needs rdkit.
    """
    from xlm_core.data.tokenizers import encode

    column = COLUMNS.get(task, task)
    if column not in rows or task not in TASKS:
        raise DataError(f"there are no fragments for the task {task!r}", f"data.arguments.task is one of {', '.join(TASKS)}.")
    again = range(samples)
    prompts = [_opened(fragment, task, f"{seed} {fragment} {n}") for fragment in rows[column] for n in again]
    texts = {
        "prompt_ids": [f"{bracketed(prompt) if bracket else prompt}." for prompt in prompts],
        "input_ids": [smiles for smiles in rows["smiles"] for _ in again],
    }
    return {name: encode(tokenizer, column) for name, column in texts.items()}


def _opened(fragment: str, task: str, key: str) -> str:
    if task != "superstructure_generation" or "*" in fragment:
        return opened(fragment)
    from xlm_core.tasks.molecules import chemistry

    return opened(chemistry.attachable(fragment, key))
