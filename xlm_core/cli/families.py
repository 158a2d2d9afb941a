"""`xlm families`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from xlm_core.cli import output
from xlm_core.cli.options import Json, complete_family
from xlm_core.errors import FamilyError

commands = typer.Typer(no_args_is_help=True, help="The model families that are installed.")


@commands.command("list")
def list_families(
    load: Annotated[
        bool, typer.Option("--load", help="Load each too, in a process of its own: seconds instead of an instant.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Every installed family, the package that it comes from, and whether it can be used.

    Nothing of a family is imported: its metadata, the names and syntax of its files and the spelling of its hooks are looked
    at. What goes wrong only when it is imported is found with --load.
    """
    from xlm_core import diagnosis
    from xlm_core.families import installed

    columns = ("name", "distribution", "version", "status", "detail")
    records = list(installed().values())
    seen = [found.record for found in diagnosis.awake(records)] if load else map(diagnosis.at_rest, records)
    output.table([{column: getattr(record, column) for column in columns} for record in seen], as_json)


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


def complete_template(incomplete: str) -> list[str]:
    from xlm_core.scaffold import repository

    return [name for name in (repository.MINIMAL, *complete_family("")) if name.startswith(incomplete)]


@commands.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Name of the family, as my_family.")],
    template: Annotated[
        str,
        typer.Option("--template", help="minimal, or an installed family to copy, as ilm.", autocompletion=complete_template),
    ] = "minimal",
    to: Annotated[Path | None, typer.Option("--to", help="Where to; xlm-family-NAME when not given.")] = None,
) -> None:
    """Write the repository of a family of your own, ready to install, train and test."""
    from xlm_core.scaffold import repository

    folder = repository.write(name, template, to)
    print(f"{folder} holds the family {name!r}. Go on with:\n")
    print(f"  cd {shlex.quote(str(to or folder.name))}")
    print('  pip install -e ".[dev]"')
    print(f"  xlm train --family {name} --data star_easy --preset cpu")
    print("  pytest")
