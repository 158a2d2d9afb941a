"""Predictions as JSONL: one line a row, every row once, from all ranks, in the order of the rows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from xlm_core.protocols import Batch, Prediction, Ratio, Tokenizer
from xlm_core.trace import Trace


def rows(batch: Batch, prediction: Prediction, tokenizer: Tokenizer, metrics: Mapping[str, Ratio]) -> Iterator[dict[str, Any]]:
    """One JSON-able dictionary a row: row, text, prompt, target, ids, nfe, and the row's own value of each metric."""
    pad_id = tokenizer.pad_token_id
    ids = [[token for token in row if token != pad_id] for row in prediction.ids.tolist()]
    targets = [[t for t in row if t != pad_id] for row in batch["target_ids"].tolist()] if "target_ids" in batch else None
    values = {name: (ratio.total / ratio.count).tolist() for name, ratio in metrics.items() if name != "nfe"}
    for i, (row, nfe) in enumerate(zip(batch["draw"].tolist(), prediction.nfe.tolist(), strict=True)):
        line: dict[str, Any] = {
            "row": row,
            "text": tokenizer.decode(ids[i], skip_special_tokens=True),
            "ids": ids[i],
            "nfe": nfe,
        }
        if "prompt_ids" in batch:
            line["prompt"] = tokenizer.decode([token for token in batch["prompt_ids"][i].tolist() if token != pad_id])
        if targets is not None:
            line["target"] = tokenizer.decode(targets[i], skip_special_tokens=True)
        line["metrics"] = {name: None if value[i] != value[i] else value[i] for name, value in values.items()}
        if prediction.traces is not None:
            line["trace"] = trace_to_json(prediction.traces[i])
        yield line


def trace_to_json(trace: Trace) -> dict[str, Any]:
    """`start` and a list of [step, position, operation, token, confidence, time]; NaN is written as null."""
    return {"start": list(trace.start), "events": [[None if x != x else x for x in event] for event in trace.events]}


class PredictionWriter:
    """Collects the lines of one loader on one rank; ranks are joined when all are done.

    Args:
        path: the finished file. Nothing exists under this name until every row is there.
        job: equal on all ranks, and in no other job that may write the same file at the same time.
        rank: of this process.
    """

    def __init__(self, path: Path, job: int, rank: int) -> None:
        self.path = path
        self._part = _part(path, job, rank)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("w", encoding="utf-8")

    def write(self, lines: Iterable[dict[str, Any]]) -> None:
        for line in lines:
            self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")

    def close(self) -> None:
        self._file.close()


def join(path: Path, job: int, world: int) -> None:
    """Put the parts of all ranks together, sorted by row. Call on one rank, when all have closed theirs."""
    parts = [_part(path, job, rank) for rank in range(world)]
    lines = [line for part in parts for line in part.read_text(encoding="utf-8").splitlines()]
    lines.sort(key=lambda line: json.loads(line)["row"])
    parts[0].write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    os.replace(parts[0], path)
    for part in parts[1:]:
        part.unlink()


def _part(path: Path, job: int, rank: int) -> Path:
    return path.with_name(f".{path.name}.{job}.{rank}")
