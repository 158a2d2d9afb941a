"""`xlm train`."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from xlm_core.cli import output
from xlm_core.cli.options import ConfigDir, Json, Overrides, complete_data, complete_family
from xlm_core.errors import CheckpointError, ConfigError, Interrupted

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from xlm_core.families import Family
    from xlm_core.run import Result, Sample

MOST_FRAMES = 32
"""Steps of a sample that are printed one by one."""


def train(
    overrides: Overrides = None,
    family: Annotated[
        str | None, typer.Option("--family", "-f", help="Family; a,b with --multirun.", autocompletion=complete_family)
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", "-d", help="Data set; a,b with --multirun.", autocompletion=complete_data)
    ] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="A variant of the pair's recipe, as cpu.")] = None,
    no_recipe: Annotated[bool, typer.Option("--no-recipe", help="Leave out the pair's published hyper-parameters.")] = False,
    resume: Annotated[
        str | None, typer.Option("--resume", help="Continue a run folder, or auto: the newest run, if any.")
    ] = None,
    cfg: Annotated[Literal["job"] | None, typer.Option("--cfg", help="Print the composed config and stop.")] = None,
    multirun: Annotated[bool, typer.Option("--multirun", "-m", help="Sweep over overrides with commas.")] = False,
    config_dir: ConfigDir = None,
    as_json: Json = False,
) -> None:
    """Train a family on a data set, then measure it on the test split.

    A sweeper that optimises gets the validation metric `data.monitor`, when trainer.test=false.
    """
    from xlm_core import families

    if resume is not None and _resume(resume, family, data, overrides or [], cfg is not None, as_json):
        return
    if not family or not data:
        raise ConfigError("train needs --family and --data", "`xlm families list` and `xlm data list` show them.")
    if preset and no_recipe:
        raise ConfigError("a preset is a recipe: --preset and --no-recipe exclude each other", "Leave one out.")
    names, sets = family.split(","), data.split(",")
    if len(names) * len(sets) > 1 and not multirun:
        raise ConfigError("several families or data sets are a sweep", "Add --multirun.")
    loaded = [families.load(name) for name in names]
    failures: list[Exception] = []
    for one, dataset in itertools.product(loaded, sets):
        arguments = _arguments(one, dataset, preset, no_recipe, overrides or [], config_dir)
        if cfg is not None:
            _print_config(arguments, one, config_dir)
            continue
        try:
            _launch(one, arguments, multirun, config_dir, as_json)
        except Interrupted:
            raise
        except Exception as error:
            failures.append(error)
    if failures:
        raise failures[0]


def _arguments(
    family: Family, data: str, preset: str | None, no_recipe: bool, overrides: list[str], folder: Path | None
) -> list[str]:
    from xlm_core import composition

    name = family.record.name
    own = any(override.lstrip("~+").partition("=")[0] == "experiment" for override in overrides)
    recipe = None if no_recipe or own else composition.recipe(data, name, preset, folder)
    if recipe:
        output.say(f"recipe     experiment/{recipe} (--no-recipe leaves it out)")
    return [f"family={name}", f"data={data}", *([f"experiment={recipe}"] if recipe else []), *overrides]


def _print_config(arguments: list[str], family: Family, folder: Path | None) -> None:
    from omegaconf import OmegaConf

    from xlm_core import composition

    print(OmegaConf.to_yaml(composition.compose(arguments, [family.record.name], folder=folder)), end="")


def _launch(family: Family, arguments: list[str], multirun: bool, folder: Path | None, as_json: bool) -> None:
    from xlm_core import composition

    def task(cfg: DictConfig, directory: Path) -> float | None:
        config = composition.check(cfg, family)

        from xlm_core import run

        found = run.train(config, family, directory)
        _report(found, as_json)
        aim = found.metrics.get(f"validation/{config.data.monitor}")
        return None if aim is None else aim.value

    name = family.record.name
    if not multirun:
        # A slip shows before a run folder is made and before anything heavy is imported.
        composition.check_training(composition.check(composition.compose(arguments, [name], folder=folder), family))
    composition.launch([*arguments, *(["--multirun"] if multirun else [])], [name], task, folder)


def _resume(name: str, family: str | None, data: str | None, overrides: list[str], print_only: bool, as_json: bool) -> bool:
    """Continue a run; False when `auto` finds none and a new one can start."""
    from xlm_core import composition, run

    try:
        folder = run.find(name, family, data)
    except CheckpointError:
        if name == "auto" and family and data:
            output.say("resume     no run yet: starting one")
            return False
        raise
    if print_only:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(composition.reload(folder / "config.yaml", overrides)), end="")
        return True
    config, loaded = run.reopen(folder, overrides)
    _same("family", family, config.family.name, folder)
    output.say(f"resume     {folder}")
    _report(run.train(config, loaded, folder, resume=folder), as_json)
    return True


def _same(option: str, given: str | None, saved: Any, folder: Path) -> None:
    if given is not None and given != saved:
        raise ConfigError(
            f"--{option} is {given!r}, but {folder} is a run of {saved!r}", "Leave the option out, or resume another."
        )


def _report(found: Result, as_json: bool) -> None:
    output.result(found, as_json)
    if found.sample is not None and not output.silent():
        _show(found.sample, found.directory)
    output.say(f"next       xlm generate {found.directory}")


def _show(sample: Sample, folder: Path) -> None:
    """A decoded row of the test split on stderr: token by token, or as a whole where that would fill the screen."""
    from xlm_core.cli.watch import frames, line
    from xlm_core.inspection import tokenizer
    from xlm_core.trace import Trace

    decode = tokenizer(folder).decode
    output.say(f"sample     {sample.prompt}" if sample.prompt else "sample")
    shown = list(frames(sample.trace or Trace()))
    if len(shown) > MOST_FRAMES:
        output.say(f"  {sample.text}")
        return
    for frame in shown:
        output.say(f"  {line(frame, lambda token: str(decode([token])))}")
