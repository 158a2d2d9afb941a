"""What a run measured, and the file that keeps it: `results/<split>_step<step>.json` in the run's folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlm_core.canvas import Specials
from xlm_core.decoding import Sample
from xlm_core.errors import CheckpointError
from xlm_core.evaluation import evaluators
from xlm_core.evaluation.evaluators import Evaluator
from xlm_core.evaluation.statistics import Estimate

if TYPE_CHECKING:
    from xlm_core.protocols import Batch, Collator, Example, Layout, Tokenizer


@dataclass(frozen=True)
class Result:
    """What a run measured."""

    metrics: dict[str, Estimate]
    directory: Path
    checkpoint: Path | None
    sample: Sample | None = None
    """One row of the test split, decoded with its trace."""
    policy: Mapping[str, Any] | None = None
    """What was done to the text before it was measured: see `xlm_core.data.policy`."""


def write(result: Result, family: str, split: str, step: int) -> None:
    """Keep a result in its run's folder, all or nothing."""
    folder = result.directory / "results"
    folder.mkdir(exist_ok=True)
    metrics = {name: asdict(estimate) for name, estimate in result.metrics.items()}
    kept = {"family": family, "split": split, "step": step, "policy": result.policy, "metrics": metrics}
    file = folder / f"{split}_step{step:07d}.json"
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_text(json.dumps(kept, indent=2) + "\n")
    os.replace(partial, file)


def read(folder: Path, split: str) -> dict[str, Any]:
    """The newest result of a split that a run's folder holds.

    Raises:
        CheckpointError: there is none.
    """
    found = [*folder.glob(f"results/{split}_step*.json")]
    if not found:
        raise CheckpointError(f"{folder} has no result of the split {split}", f"`xlm eval {folder} --split {split}` makes one.")
    kept: dict[str, Any] = json.loads(max(found, key=lambda file: file.stat().st_mtime).read_text())
    return kept


def assess(predictions: Path, chosen: Mapping[str, Evaluator]) -> dict[str, Estimate]:
    """What evaluators find of each row is written beside the predictions, as `*.scored.jsonl`."""
    rows = evaluators.scored(chosen, evaluators.read(predictions))
    evaluators.write(predictions.with_suffix(".scored.jsonl"), rows)
    evaluators.export(predictions, rows, chosen)
    return evaluators.summarised(chosen, rows)


def specials(collate: Collator, tokenizer: Tokenizer, layout: Layout, *, packed: bool) -> list[str]:
    """Names of the special tokens that a family's `evaluate` collator puts beside a text, found by letting it do so."""
    known = Specials.of(tokenizer)
    word = next(i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids)
    example: Example = {"draw": 0, "input_ids": [word] * 3}
    if layout != "lm":
        example["prompt_ids"] = [word, known.mask, word] if layout == "infill" else [word]
    if packed:
        example |= {"input_ids": [word, word, known.eos], "segment_ids": [0, 0, 0]}
    batch: Batch = collate([example])
    ids = {i for key in ("input_ids", "target_ids") if key in batch for i in batch[key].flatten().tolist()}  # type: ignore[literal-required]
    return [name for name in ("bos", "eos", "cls", "sep") if getattr(known, name) in ids]
