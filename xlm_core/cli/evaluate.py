"""`xlm eval`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from xlm_core.cli import output
from xlm_core.cli.options import Checkpoint, Json, Overrides, Run


def evaluate(
    run: Run,
    overrides: Overrides = None,
    split: Annotated[Literal["test", "validation"], typer.Option("--split", help="Which split to measure.")] = "test",
    checkpoint: Checkpoint = "best",
    as_json: Json = False,
) -> None:
    """Measure a run on a split: each metric with its standard error."""
    from xlm_core import run as runs

    output.result(runs.evaluate(runs.find(run), split=split, checkpoint=checkpoint, overrides=overrides or []), as_json)
