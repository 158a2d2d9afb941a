"""`xlm data`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xlm_core.cli import output
from xlm_core.cli.options import ConfigDir, DataName, Json, Overrides, complete_family
from xlm_core.errors import XlmError

if TYPE_CHECKING:
    from xlm_core.config import RunConfig
    from xlm_core.families import Family

COLOURS: dict[str, dict[str, Any]] = {
    "prompt": {"fg": "cyan"},
    "target": {"fg": "green"},
    "text": {},
    "given": {"fg": "cyan"},
    "hole": {"fg": "yellow", "bold": True},
    "bos": {"fg": "magenta"},
    "eos": {"fg": "magenta"},
    "cls": {"fg": "magenta"},
    "sep": {"fg": "magenta"},
    "unk": {"fg": "red"},
    "pad": {"dim": True},
}
"""How the roles of `xlm_core.data.roles` look."""

commands = typer.Typer(no_args_is_help=True, help="The data sets that families can be trained on.")


@commands.command("list")
def list_data(config_dir: ConfigDir = None, as_json: Json = False) -> None:
    """Every data set, those that plugins ship too: its layout, whether it downloads, its licence."""
    from xlm_core import searchpath

    sets = searchpath.options(searchpath.everything(config_dir)).get("data", {})
    output.table(
        [_row(name, source.folder / "data" / f"{name}.yaml", config_dir) for name, source in sorted(sets.items())], as_json
    )


@commands.command("show")
def show(
    name: DataName,
    overrides: Overrides = None,
    family: Annotated[
        str | None,
        typer.Option("-f", "--family", help="Show what this family's network reads.", autocompletion=complete_family),
    ] = None,
    example: Annotated[bool | None, typer.Option("--example/--no-example", help="Prepare it and print a row.")] = None,
    config_dir: ConfigDir = None,
    as_json: Json = False,
) -> None:
    """The config of a data set, and one example token by token; of a set that downloads, only with --example."""
    from omegaconf import OmegaConf

    config, loaded = _config(name, overrides or [], config_dir, family)
    nodes = {"data": config.data, "tokenizer": config.tokenizer}
    found: dict[str, Any] = {key: OmegaConf.to_container(OmegaConf.structured(node)) for key, node in nodes.items()}
    wanted = example if example is not None else not config.data.download
    if not as_json:
        print(OmegaConf.to_yaml(OmegaConf.create(found)), end="")
    if wanted:
        found["example"] = _example(config, loaded)
    elif example is None:
        output.say(f"It downloads: `xlm data show {name} --example` prints a row.")
    if as_json:
        print(output.to_json(found))
    elif wanted:
        _print_tokens(found["example"]["tokens"])


@commands.command("prepare")
def prepare(name: DataName, overrides: Overrides = None, config_dir: ConfigDir = None, as_json: Json = False) -> None:
    """Download and tokenise a data set, once: later runs find it. An interrupted preparation goes on where it was."""
    config, _ = _config(name, overrides or [], config_dir)

    from xlm_core import run

    manifests = run.prepare(config, None)
    if as_json:
        print(output.to_json(manifests))
        return
    for split, manifest in manifests.items():
        facts = (f"{key} {value}" for key, value in manifest.items() if isinstance(value, int | str))
        print(f"{split}: {', '.join(facts)}")


def _config(name: str, overrides: list[str], folder: Path | None, family: str | None = None) -> tuple[RunConfig, Family | None]:
    from xlm_core import composition, families

    chosen = [f"family={family}"] if family else []
    loaded = families.load(family) if family else None
    cfg = composition.compose([*chosen, f"data={name}", *overrides], [family] if family else [], folder=folder)
    return composition.check(cfg, loaded), loaded


def _row(name: str, file: Path, folder: Path | None) -> dict[str, Any]:
    """A line of the list: from the file and those that it extends where they say enough, else composed, which takes longer."""
    import yaml

    try:
        read = _read(file)
        facts = read if {"layout", "splits"} <= set(read) else asdict(_config(name, [], folder)[0].data)
    except (yaml.YAMLError, TypeError, XlmError) as error:
        first = str(error).splitlines()[0]
        return {"name": name, "layout": "?", "download": "?", "rows": "?", "title": f"broken: {first}", "licence": ""}
    told = {"download": False, "title": "", "licence": "", **facts, "rows": _rows(facts)}
    return {"name": name, **{key: told[key] for key in ("layout", "download", "rows", "title", "licence")}}


def _read(file: Path) -> dict[str, Any]:
    """What a file says over what the files beside it say that it extends."""
    import yaml

    own = yaml.safe_load(file.read_text())
    parents = [file.parent / f"{name}.yaml" for name in own.get("defaults", ()) if isinstance(name, str) and name != "_self_"]
    for parent in parents:
        own = _over(own, _read(parent)) if parent.exists() else own
    return dict(own)


def _over(own: Any, other: Any) -> Any:
    if not (isinstance(own, dict) and isinstance(other, dict)):
        return own
    return {**other, **{key: _over(value, other.get(key)) for key, value in own.items()}}


def _rows(facts: Mapping[str, Any]) -> str:
    """How many rows each split has, as far as the config says; a split without a number has what the source has."""
    made = (facts.get("source") or {}).get("arguments") or {}
    told = []
    for split, chosen in facts["splits"].items():
        chosen = chosen or {}
        sizes = [size for size in (chosen.get("rows"), made.get(chosen.get("source", "train"))) if isinstance(size, int)]
        told.append(f"{split} {min(sizes):,}" if sizes else split)
    return ", ".join(told)


def _example(config: RunConfig, family: Family | None) -> dict[str, Any]:
    from xlm_core import inspection

    tokenizer, row = inspection.example(config)
    columns: dict[str, Any] = {column: value for column, value in row.items() if column.endswith("_ids")}
    texts = {column.removesuffix("_ids"): tokenizer.decode(ids) for column, ids in columns.items() if column != "segment_ids"}
    tokens = [token._asdict() for token in inspection.tokens(config, tokenizer, row, family)]
    return {**texts, **{column: list(ids) for column, ids in columns.items()}, "tokens": tokens}


def _print_tokens(tokens: list[dict[str, Any]]) -> None:
    """On a terminal one line in the colours of the roles; elsewhere a token a line."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        output.table(tokens)
        return
    roles = dict.fromkeys(token["role"] for token in tokens)
    print(" ".join(typer.style(role, **COLOURS[role]) for role in roles), end="\n\n")
    print(" ".join(typer.style(token["token"], **COLOURS[token["role"]]) for token in tokens))
