"""`xlm eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from xlm_core.cli import output
from xlm_core.cli.options import Checkpoint, Json, Overrides, complete_data
from xlm_core.errors import ConfigError


def evaluate(
    run: Annotated[str | None, typer.Argument(help="A run folder, or latest.")] = None,
    overrides: Overrides = None,
    split: Annotated[Literal["test", "validation"], typer.Option("--split", help="Which split to measure.")] = "test",
    checkpoint: Checkpoint = "best",
    predictions: Annotated[
        Path | None, typer.Option("--predictions", help="Measure this file of predictions instead of a run.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("-d", "--data", help="The data set whose evaluators do it.", autocompletion=complete_data),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a run on a split, or a file of predictions: each metric with its standard error."""
    if (predictions is None) != (data is None) or (predictions is None and run is None):
        hint = "`xlm eval latest`, or `xlm eval --predictions FILE --data star_easy`."
        raise ConfigError("xlm eval takes a run, or --predictions with --data", hint)
    from xlm_core import composition
    from xlm_core import run as runs

    if predictions is not None:
        given = [f"data={data}", *([run] if run else []), *(overrides or [])]
        output.result(runs.assess(composition.check(composition.compose(given)), predictions), as_json)
        return
    output.result(runs.evaluate(runs.find(str(run)), split=split, checkpoint=checkpoint, overrides=overrides or []), as_json)
