"""`xlm compare`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

import typer

from xlm_core.cli import output
from xlm_core.cli.options import Json


def compare(
    runs: Annotated[list[str], typer.Argument(help="Run folders that `xlm eval` or `xlm train` has measured.")],
    split: Annotated[Literal["test", "validation"], typer.Option("--split", help="Which split's results.")] = "test",
    as_json: Json = False,
) -> None:
    """The last results of runs side by side. Likelihoods of different data policies are left out, and why is said."""
    from xlm_core import run as library

    folders = [library.find(name) for name in runs]
    made = library.compare(folders, split)
    if as_json:
        metrics = {name: {run: asdict(found) for run, found in of.items()} for name, of in made.metrics.items()}
        print(output.to_json({"metrics": metrics, "not_compared": made.refused}))
        return
    output.table(
        [{"metric": name, **{run: str(of.get(run, "")) for run in map(str, folders)}} for name, of in made.metrics.items()]
    )
    for name, why in made.refused.items():
        output.say(f"{name} is not compared: {why}.")
