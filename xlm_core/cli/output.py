"""Printing: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xlm_core.run import Result, Sample


def silent() -> bool:
    """Whether this process is a rank that repeats what the first one says."""
    return int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0) > 0


def say(text: str) -> None:
    """A line for the human, on stderr."""
    if not silent():
        print(text, file=sys.stderr, flush=True)


def to_json(value: Any, indent: int | None = 2) -> str:
    """JSON in which what is not a number is null, as the standard has no NaN."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False)


def table(rows: Sequence[Mapping[str, Any]], as_json: bool = False) -> None:
    """Rows of the same keys, as aligned columns or as a JSON list."""
    if as_json:
        print(to_json(rows))
        return
    if not rows:
        return
    cells = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def result(found: Result, as_json: bool = False) -> None:
    """What a run measured."""
    if silent():
        return
    if as_json:
        metrics = {name: asdict(estimate) for name, estimate in found.metrics.items()}
        facts = {"directory": str(found.directory), "checkpoint": _text(found.checkpoint), "policy": found.policy}
        print(to_json({**facts, "metrics": metrics}))
        return
    table([{"metric": name, "value": str(estimate)} for name, estimate in found.metrics.items()])


def sample(made: Sample, trace: bool) -> dict[str, Any]:
    """A generated text as a JSON row."""
    row: dict[str, Any] = {"prompt": made.prompt, "text": made.text, "ids": made.ids, "nfe": made.nfe}
    if trace and made.trace is not None:
        row["trace"] = {"start": list(made.trace.start), "events": [event._asdict() for event in made.trace.events]}
    return row


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
