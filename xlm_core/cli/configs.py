"""`xlm configs`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from xlm_core.cli import output
from xlm_core.cli.options import Json, complete_config
from xlm_core.errors import ConfigError

commands = typer.Typer(no_args_is_help=True, help="The config files that `xlm train` composes.")

Name = Annotated[str, typer.Argument(help="Config, as experiment/lm1b_ilm.", autocompletion=complete_config)]


@commands.command("list")
def list_configs(group: Annotated[str | None, typer.Argument(help="Only this group.")] = None, as_json: Json = False) -> None:
    """Every config, by group, and the package that it comes from."""
    from xlm_core import families, searchpath

    groups = searchpath.options(searchpath.everything())
    if group is not None and group not in groups:
        hint = families.nearest(group, groups) or f"Groups are {', '.join(sorted(groups))}."
        raise ConfigError(f"there is no config group {group!r}", hint)
    rows = [
        {"group": name, "option": option, "from": source.provider}
        for name, options in sorted(groups.items())
        for option, source in sorted(options.items())
        if group in (None, name)
    ]
    output.table(rows, as_json)


@commands.command("show")
def show(name: Name) -> None:
    """Print a config file."""
    from xlm_core import searchpath

    print(searchpath.find(name, searchpath.everything()).read_text(), end="")


@commands.command("copy")
def copy(
    name: Name,
    destination: Annotated[Path, typer.Argument(help="A folder for --config-dir, or a .yaml file.")] = Path(),
) -> None:
    """Copy a config file for editing. In a folder it gets a name of its own, so that both can be chosen."""
    from xlm_core import searchpath

    source = searchpath.find(name, searchpath.everything())
    group = source.parent.name
    target = destination if destination.suffix == ".yaml" else destination / group / f"my_{source.name}"
    if target.exists():
        raise ConfigError(f"{target} is there already", "Give another file, as my_folder/experiment/second.yaml.")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    print(target)
    output.say(f"Use it with --config-dir {target.parent.parent} {group}={target.stem}")
