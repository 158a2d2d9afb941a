"""`xlm families`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from xlm_core.cli import output
from xlm_core.cli.options import Json, complete_family
from xlm_core.errors import FamilyError

commands = typer.Typer(no_args_is_help=True, help="The model families that are installed.")


@commands.command("list")
def list_families(as_json: Json = False) -> None:
    """Every installed family, the package that it comes from, and whether it can be used."""
    from xlm_core.families import installed

    columns = ("name", "distribution", "version", "status", "detail")
    output.table([{column: getattr(record, column) for column in columns} for record in installed().values()], as_json)


@commands.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Family: `xlm families list`.", autocompletion=complete_family)],
    as_json: Json = False,
) -> None:
    """What a family is and can do, and the configs and recipes that it brings."""
    from xlm_core import searchpath
    from xlm_core.families import load

    family = load(name)
    own = [source for source in searchpath.sources([name]) if source.provider == family.record.origin]
    configs = {group: sorted(options) for group, options in searchpath.options(own).items() if group != "family"}
    facts = {key: value for key, value in vars(family.info).items() if key != "configs"}
    described: dict[str, Any] = {"name": name, "package": family.record.origin, **facts, "configs": configs}
    if as_json:
        print(output.to_json(described))
        return
    recipes = configs.pop("experiment", [])
    for key, value in {**described, **configs, "recipes": recipes}.items():
        if key != "configs":
            print(f"{key.replace('_', ' '):18}{', '.join(value) if isinstance(value, list | tuple) else value}")


@commands.command("check")
def check(
    name: Annotated[str, typer.Argument(help="Family: `xlm families list`.", autocompletion=complete_family)],
    as_json: Json = False,
) -> None:
    """Whether a family keeps the contract: a small network of it is built, trained and decoded with, in less than a minute.

    Exits with 3 when a check fails. What the family declares that it cannot do is shown and is no failure.
    """
    from xlm_core.families import load
    from xlm_core.testing import report
    from xlm_core.testing.building import Built
    from xlm_core.testing.declaration import Declaration

    family = load(name)
    outcomes = []
    for outcome in report.run(Built(family, Declaration.of(family.record))):
        outcomes.append(outcome)
        if not as_json:
            print(outcome, flush=True)
    passed = all(outcome.status != "failed" for outcome in outcomes)
    if as_json:
        rows = [{key: value for key, value in vars(outcome).items() if key != "error"} for outcome in outcomes]
        print(output.to_json({"name": name, "package": family.record.origin, "passed": passed, "checks": rows}))
    if not passed:
        raise typer.Exit(FamilyError.exit_code)
