"""`xlm run FAMILY COMMAND`: the commands that a family's plugin brings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from xlm_core.cli.options import complete_family

if TYPE_CHECKING:
    from xlm_core.families import Family

# What stands behind the family's name is not ours to read.
SETTINGS = {"allow_interspersed_args": False, "ignore_unknown_options": True}


def run(
    family: Annotated[str, typer.Argument(help="Family: `xlm families list`.", autocompletion=complete_family)],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND", help="The command and what it takes; none lists them.")
    ] = None,
) -> None:
    """Run a command that a family's plugin brings. `xlm run FAMILY` lists them; only that family is loaded."""
    from xlm_core import families

    shell = typer.Typer(rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})
    # As a group in a group, because one command by itself would not go by its name.
    shell.add_typer(_commands(families.load(family)), name=family, no_args_is_help=True)
    code = shell(args=[family, *(arguments or [])], prog_name="xlm run", standalone_mode=False)
    if isinstance(code, int) and code:
        raise typer.Exit(code)


def _commands(family: Family) -> typer.Typer:
    from xlm_core import families

    try:
        commands = family.hook.xlm_commands()
    except Exception as error:
        raise families.broken(family.record, f"fails in xlm_commands: {type(error).__name__}: {error}") from error
    if commands is None:
        raise families.broken(family.record, "brings no commands", "`xlm -h` shows core's.")
    if not isinstance(commands, typer.Typer):
        what = f"gives {type(commands).__name__} in xlm_commands, not a typer.Typer"
        raise families.broken(family.record, what, "See xlm_core.hookspecs.")
    return commands
