"""The public surface, as `help(xlm_core)` lists it, against the recorded one: a change of it is a decision.

    python tests/test_surface.py

records it anew in public_surface.json; the difference is then read in review. What is added is a minor release; what is changed
or taken away first warns for one, and goes with a major one.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import importlib
import inspect
import json
import os
import pkgutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args, get_origin, is_typeddict

import pytest
import torch
import typer

import xlm_core
from xlm_core import compose, composition, config, errors, families, hookspecs, load_family, protocols, run, searchpath, trace
from xlm_core.cli.app import app

RECORD = Path(__file__).with_name("public_surface.json")
PRIMITIVES = ("canvas", "trace", "nn", "noise", "losses", "sampling", "testing.suite", "testing.declaration", "testing.report")
READ = ("state_dict", "global_step", "optimizer_states", "lr_schedulers", "callbacks", "loops")
"""Of a checkpoint, which Lightning writes: what core reads."""


def surface() -> dict[str, Any]:
    """Everything but the files of a run."""
    hooks = {name: inspect.signature(hook) for name, hook in vars(hookspecs).items() if name.startswith("xlm_")}
    return {
        "package": {"names": sorted(xlm_core.__all__), "run": members(run)},
        "hooks": {f"{name}{form}": "required" if name in families.HOOKS else "optional" for name, form in hooks.items()},
        "protocols": members(protocols),
        "config": members(config),
        "config groups": {
            group: sorted(options) for group, options in sorted(searchpath.options(searchpath.sources()).items())
        },
        "exit codes": {name: kind.exit_code for name, kind in vars(errors).items() if inspect.isclass(kind)},
        "commands": dict(commands(typer.main.get_command(app))),
        "for plugins": {module.__name__: members(module) for name in PRIMITIVES for module in modules(name)},
    }


def modules(name: str) -> list[Any]:
    """A module of core and those inside it."""
    package = importlib.import_module(f"xlm_core.{name}")
    inner = pkgutil.iter_modules(getattr(package, "__path__", []), f"{package.__name__}.")
    return [package, *(importlib.import_module(found.name) for found in inner)]


def members(module: Any) -> dict[str, Any]:
    """What a module defines, or offers by `__all__`, under public names."""
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    described = {name: described_as(getattr(module, name), module.__name__) for name in sorted(names)}
    return {name: text for name, text in described.items() if text is not None}


def described_as(thing: Any, home: str) -> Any:
    if get_origin(thing) is not None and get_args(thing) and all(isinstance(value, str) for value in get_args(thing)):
        return list(get_args(thing))
    own = getattr(thing, "__module__", "").startswith(home)
    if not own or not (inspect.isclass(thing) or inspect.isfunction(thing)):
        return None
    if inspect.isfunction(thing):
        return str(inspect.signature(thing))
    if dataclasses.is_dataclass(thing):
        return {**{field.name: f"{field.type}{default(field)}" for field in dataclasses.fields(thing)}, **methods(thing)}
    if is_typeddict(thing) or hasattr(thing, "_fields"):
        kinds = {name: getattr(kind, "__forward_arg__", kind) for name, kind in thing.__annotations__.items()}
        return {**{name: str(kind) for name, kind in kinds.items()}, **methods(thing)}
    return methods(thing)


def methods(thing: Any) -> dict[str, str]:
    """Its own public methods and properties, and `__init__` and `__call__` where they are written out."""
    found = {}
    for name, value in sorted(vars(thing).items()):
        function = getattr(value, "__func__", getattr(value, "fget", value))
        written = inspect.isfunction(function) and function.__qualname__ == f"{thing.__qualname__}.{name}"
        generated = name == "__init__" and (dataclasses.is_dataclass(thing) or getattr(thing, "_is_protocol", False))
        if written and not generated and (not name.startswith("_") or name in ("__init__", "__call__")):
            found[f"{name}{'' if isinstance(value, property) else '()'}"] = str(inspect.signature(function))
    return found


def default(field: Any) -> str:
    if field.default is not dataclasses.MISSING:
        return f" = {field.default!r}"
    if field.default_factory is dataclasses.MISSING:
        return ""
    value = field.default_factory()
    return f" = {type(value).__name__}()" if dataclasses.is_dataclass(value) else f" = {value!r}"


def commands(command: Any, name: str = "xlm") -> Any:
    """Each command with its arguments and flags."""
    inside = getattr(command, "commands", {})
    if not inside or name == "xlm":
        yield name, [parameter(one) for one in command.params if one.name != "help"]
    for word, one in sorted(inside.items()):
        yield from commands(one, f"{name} {word}")


def parameter(one: Any) -> str:
    words = " ".join([*one.opts, *one.secondary_opts]) if one.param_type_name == "option" else one.name.upper()
    return f"{words}{' (required)' if one.required else '' if one.default is None else f' = {one.default!r}'}"


def files(folder: Path) -> dict[str, Any]:
    """The files of a run, and the keys in them."""
    family = load_family("arlm")
    few = [f"data.splits.{split}.rows=4" for split in ("train", "validation", "test")]
    small = ["model=arlm_cpu", "model.dim=16", "model.layers=1", "model.heads=2", "trainer=cpu", "trainer.max_steps=1"]
    batch = ["trainer.batch_size=4", "trainer.micro_batch_size=4", "trainer.eval_every=1", "scheduler.warmup_steps=1"]
    given = ["family=arlm", "data=star_easy", *few, *small, *batch, "data.workers=0", "data.processes=1"]
    result = run.train(composition.check(compose(given, ["arlm"]), family), family, folder / "run")
    found = sorted(path.relative_to(folder / "run") for path in (folder / "run").rglob("*") if path.is_file())
    with (folder / "run" / "metrics.csv").open() as file:
        columns = next(csv.reader(file))
    content = torch.load(result.checkpoint, map_location="cpu", weights_only=True)
    lines = next((folder / "run" / "predictions").glob("test_*.jsonl")).read_text().splitlines()
    return {
        "files": [path.as_posix() for path in found],
        "config.yaml": sorted(composition.reload(folder / "run" / "config.yaml")),
        "environment.json": sorted(json.loads((folder / "run" / "environment.json").read_text())),
        "metrics.csv": columns,
        "checkpoints": sorted(set(READ) & set(content)),
        "predictions": sorted(json.loads(lines[0])),
        "results": keys(json.loads(next((folder / "run" / "results").iterdir()).read_text())),
        "events of a trace": list(trace.Event._fields),
    }


def keys(value: Any) -> Any:
    return {key: keys(inner) for key, inner in sorted(value.items())} if isinstance(value, dict) else "value"


def compare(name: str, now: Any) -> None:
    recorded = json.loads(RECORD.read_text()).get(name)
    old, new = (json.dumps(value, indent=1, sort_keys=True).splitlines() for value in (recorded, now))
    changed = list(difflib.unified_diff(old, new, "recorded", "now", n=1, lineterm=""))
    assert not changed, "\n".join([f"{name}: if this is meant, `python tests/test_surface.py` records it", *changed])


@pytest.fixture(scope="module")
def now():
    return surface()


@pytest.mark.parametrize("name", [name for name in json.loads(RECORD.read_text()) if name != "a run"])
def test_the_surface_is_the_recorded_one(name, now):
    compare(name, now[name])


def test_nothing_of_it_is_left_out_of_the_record(now):
    assert set(now) | {"a run"} == set(json.loads(RECORD.read_text()))


def test_the_files_of_a_run_are_the_recorded_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("XLM_CACHE", str(tmp_path / "cache"))
    compare("a run", files(tmp_path))


def record() -> None:
    with TemporaryDirectory() as folder:
        os.environ["XLM_CACHE"] = folder
        found = {**surface(), "a run": files(Path(folder))}
    unfinished = RECORD.with_suffix(".writing")
    unfinished.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    os.replace(unfinished, RECORD)


if __name__ == "__main__":
    record()
