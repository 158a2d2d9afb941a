"""The `xlm` command."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer

from xlm_core.cli import commands, compare, configs, data, doctor, evaluate, families, generate, train
from xlm_core.errors import XlmError

# A flag with no value makes typer import pydantic, which takes longer than all the rest of `xlm families list`.
FLAGS: dict[str, Any] = {"help": False, "install_completion": False, "show_completion": False}
FLAGS["families"] = {"help": False, "list": {"help": False}}
OPTIONS = {"help_option_names": ["-h", "--help"], "default_map": FLAGS}
# Typer has no public name for the base of its usage errors.
UsageError: Any = typer.BadParameter.__base__

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # drawing the help in colour takes longer to import than everything else of `xlm --help`
    context_settings=OPTIONS,
    help="Train, decode and compare autoregressive and non-autoregressive language models.",
)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("generate")(generate.generate)
app.command("compare")(compare.compare)
app.command("prepare-data")(data.prepare)
app.command("doctor")(doctor.doctor)
app.command("run", context_settings=commands.SETTINGS)(commands.run)
app.add_typer(families.commands, name="families")
app.add_typer(data.commands, name="data")
app.add_typer(configs.commands, name="configs")


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    if version:
        from importlib_metadata import version as version_of

        print(version_of("xlm-core"))
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line. A user's slip ends in one `error:` and one `hint:` line; XLM_DEBUG=1 adds the traceback.

    Raises:
        SystemExit: 0 done, 1 the run failed, 2 usage or config, 3 family, 130 interrupted.
    """
    try:
        # What it returns is an exit code, where a command ended early: by --help, or by Ctrl-C.
        code = app(args=None if arguments is None else list(arguments), prog_name="xlm", standalone_mode=False)
    except UsageError as error:
        message = error.format_message()
        if message.startswith("Usage: "):  # without arguments, the message is the help
            print(message)
        else:
            _explain(message, f"`{error.ctx.command_path if error.ctx else 'xlm'} -h` shows what it takes.")
        code = error.exit_code
    except XlmError as error:
        if os.environ.get("XLM_DEBUG", "0") not in ("", "0"):
            traceback.print_exc()
        _explain(error.message, error.hint)
        code = error.exit_code
    raise SystemExit(code)


def _explain(message: str, hint: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
