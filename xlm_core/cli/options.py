"""Options that several commands share, and their shell completion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def complete_family(incomplete: str) -> list[str]:
    from xlm_core.families import installed

    return [name for name in installed() if name.startswith(incomplete)]


def complete_data(incomplete: str) -> list[str]:
    return [name for name in _groups().get("data", []) if name.startswith(incomplete)]


def complete_config(incomplete: str) -> list[str]:
    names = (f"{group}/{option}" for group, options in _groups().items() for option in options)
    return [name for name in names if name.startswith(incomplete)]


def complete_override(incomplete: str) -> list[str]:
    """Groups, then the options of the group."""
    groups = _groups()
    group, given, option = incomplete.partition("=")
    if given:
        return [f"{group}={name}" for name in groups.get(group, []) if name.startswith(option)]
    return [f"{name}=" for name in groups if name.startswith(incomplete)]


def _groups() -> dict[str, list[str]]:
    from xlm_core import searchpath

    return {group: sorted(options) for group, options in sorted(searchpath.options(searchpath.everything()).items())}


Overrides = Annotated[
    list[str] | None, typer.Argument(help="Hydra overrides, as trainer.max_steps=1000.", autocompletion=complete_override)
]
Run = Annotated[str, typer.Argument(help="A run folder, or latest.")]
Checkpoint = Annotated[str, typer.Option("--checkpoint", help="best, last, or the path of a checkpoint.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ConfigDir = Annotated[Path | None, typer.Option("--config-dir", help="A folder of your own config groups.")]
DataName = Annotated[str, typer.Argument(help="Data set: `xlm data list`.", autocompletion=complete_data)]
