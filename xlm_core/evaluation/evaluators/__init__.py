"""What is measured on finished predictions: at the end of `xlm eval`, or later on a file of them.

A data config names evaluators and their arguments: `evaluators: {generative_perplexity: {judge: gpt2-large}}`. A name is a
module here whose `evaluator(**arguments)` makes one, or the dotted path of any such function.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from xlm_core.errors import ConfigError, DataError
from xlm_core.evaluation import ranks
from xlm_core.evaluation.statistics import Estimate

Row = Mapping[str, Any]
"""A line of a predictions file: row, text, prompt and target if there are such, ids, nfe, and what earlier evaluators added."""


class Evaluator(Protocol):
    """Scores rows one by one, which ranks share, then sums them up."""

    def score(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """What is found of each row, as JSON can hold it. No row's score depends on the other rows."""
        ...

    def summarise(self, rows: Sequence[Row]) -> dict[str, Estimate]:
        """The metrics of all rows, which hold what `score` found."""
        ...


def build(configs: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Evaluator]:
    """The evaluators of a data config.

    Raises:
        ConfigError: a name that is nothing, or arguments that it does not take.
    """
    return {name: _one(name, dict(arguments or {})) for name, arguments in configs.items()}


def read(path: Path) -> list[dict[str, Any]]:
    """A predictions file.

    Raises:
        DataError: it does not exist, or a line is not a JSON object with a text.
    """
    if not path.is_file():
        raise DataError(f"there is no predictions file {path}", "`xlm eval` writes them into the run's predictions folder.")
    rows = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                row["text"] + ""
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"line {number} of {path} is not a prediction", f"{type(error).__name__}: {error}") from error
            rows.append(row)
    return rows


def scored(evaluators: Mapping[str, Evaluator], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows with what every evaluator found of them; each sees what those before it found. Ranks score a part each."""
    rank, world = ranks.place()
    parts = ranks.together(lambda: _scores(evaluators, rows[rank::world]))
    return [parts[place % world][place // world] for place in range(len(rows))]


def summarised(evaluators: Mapping[str, Evaluator], rows: Sequence[Row]) -> dict[str, Estimate]:
    """The metrics of scored rows, on all ranks. The first one works them out.

    Raises:
        ConfigError: two evaluators give one metric.
    """
    return ranks.first(lambda: _summaries(evaluators, rows))


def _scores(evaluators: Mapping[str, Evaluator], rows: Sequence[Row]) -> list[dict[str, Any]]:
    found = [dict(row) for row in rows]
    for evaluator in evaluators.values():
        for row, new in zip(found, evaluator.score(found), strict=True):
            row.update(new)
    return found


def _summaries(evaluators: Mapping[str, Evaluator], rows: Sequence[Row]) -> dict[str, Estimate]:
    metrics: dict[str, Estimate] = {}
    for name, evaluator in evaluators.items():
        for metric, estimate in evaluator.summarise(rows).items():
            if metric in metrics:
                raise ConfigError(f"evaluator {name!r} gives {metric!r}, as one before it does", "Leave one out.")
            metrics[metric] = estimate
    return metrics


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write scored rows beside their predictions, all or nothing. Only the first rank does, and all wait for it."""
    ranks.first(lambda: _replace(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)))


def export(predictions: Path, rows: Sequence[Row], evaluators: Mapping[str, Evaluator]) -> None:
    """Write what evaluators make for other programs to read, all or nothing. Only the first rank does, and all wait for it.

    An evaluator that does so has a method `files(rows)`, which gives texts by suffix: `{".fasta": ...}` for predictions
    `test.jsonl` is written as `test.fasta` beside them.
    """
    ranks.first(lambda: _export(predictions, rows, evaluators))


def _export(predictions: Path, rows: Sequence[Row], evaluators: Mapping[str, Evaluator]) -> None:
    for evaluator in evaluators.values():
        if hasattr(evaluator, "files"):
            for suffix, text in evaluator.files(rows).items():
                _replace(predictions.with_suffix(suffix), text)


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def needs(module: str, extra: str) -> Any:
    """An optional dependency.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        hint = f'pip install "xlm-core[{extra}]"'
        raise ConfigError(f"this evaluator needs {module.partition('.')[0]}, which is not installed", hint) from error


def _one(name: str, arguments: dict[str, Any]) -> Evaluator:
    module, _, attribute = name.rpartition(".")
    try:
        make = getattr(importlib.import_module(module or f"{__name__}.{name}"), attribute if module else "evaluator")
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"data.evaluators names {name!r}, which cannot be imported", str(error)) from error
    try:
        evaluator: Evaluator = make(**arguments)
    except TypeError as error:
        raise ConfigError(f"evaluator {name!r} does not take these arguments", str(error)) from error
    return evaluator
