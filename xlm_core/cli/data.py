"""`xlm data`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xlm_core.cli import output
from xlm_core.cli.options import ConfigDir, DataName, Json, Overrides
from xlm_core.errors import XlmError

if TYPE_CHECKING:
    from xlm_core.config import RunConfig

commands = typer.Typer(no_args_is_help=True, help="The data sets that families can be trained on.")


@commands.command("list")
def list_data(config_dir: ConfigDir = None, as_json: Json = False) -> None:
    """Every data set: its layout, whether it downloads, its licence."""
    from xlm_core import searchpath

    sets = searchpath.options(searchpath.sources(folder=config_dir)).get("data", {})
    output.table(
        [_row(name, source.folder / "data" / f"{name}.yaml", config_dir) for name, source in sorted(sets.items())], as_json
    )


@commands.command("show")
def show(
    name: DataName,
    overrides: Overrides = None,
    example: Annotated[bool | None, typer.Option("--example/--no-example", help="Prepare it and print a row.")] = None,
    config_dir: ConfigDir = None,
    as_json: Json = False,
) -> None:
    """The config of a data set, and one example as text and as ids; of a set that downloads, only with --example."""
    from omegaconf import OmegaConf

    config = _config(name, overrides or [], config_dir)
    nodes = {"data": config.data, "tokenizer": config.tokenizer}
    found: dict[str, Any] = {key: OmegaConf.to_container(OmegaConf.structured(node)) for key, node in nodes.items()}
    wanted = example if example is not None else not config.data.download
    if not as_json:
        print(OmegaConf.to_yaml(OmegaConf.create(found)), end="")
    if wanted:
        found["example"] = _example(config)
    elif example is None:
        output.say(f"It downloads: `xlm data show {name} --example` prints a row.")
    if as_json:
        print(output.to_json(found))
    elif wanted:
        for column, value in found["example"].items():
            print(f"{column}: {value}")


@commands.command("prepare")
def prepare(name: DataName, overrides: Overrides = None, config_dir: ConfigDir = None, as_json: Json = False) -> None:
    """Download and tokenise a data set, once: later runs find it. An interrupted preparation goes on where it was."""
    config = _config(name, overrides or [], config_dir)

    from xlm_core import run

    manifests = run.prepare(config, None)
    if as_json:
        print(output.to_json(manifests))
        return
    for split, manifest in manifests.items():
        facts = (f"{key} {value}" for key, value in manifest.items() if isinstance(value, int | str))
        print(f"{split}: {', '.join(facts)}")


def _config(name: str, overrides: list[str], folder: Path | None) -> RunConfig:
    from xlm_core import composition

    return composition.check(composition.compose([f"data={name}", *overrides], folder=folder))


def _row(name: str, file: Path, folder: Path | None) -> dict[str, Any]:
    """A line of the list: from the file alone where it says enough, else composed, which takes longer."""
    import yaml

    try:
        read = yaml.safe_load(file.read_text())
        facts = read if "layout" in read else vars(_config(name, [], folder).data)
    except (yaml.YAMLError, TypeError, XlmError) as error:
        first = str(error).splitlines()[0]
        return {"name": name, "layout": "?", "download": "?", "title": f"broken: {first}", "licence": ""}
    told = {"download": False, "title": "", "licence": "", **facts}
    return {"name": name, **{key: told[key] for key in ("layout", "download", "title", "licence")}}


def _example(config: RunConfig) -> dict[str, Any]:
    from xlm_core import inspection

    tokenizer, row = inspection.example(config)
    columns: dict[str, Any] = {column: value for column, value in row.items() if column.endswith("_ids")}
    texts = {column.removesuffix("_ids"): tokenizer.decode(ids) for column, ids in columns.items() if column != "segment_ids"}
    return {**texts, **{column: list(ids) for column, ids in columns.items()}}
