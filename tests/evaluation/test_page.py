"""The page of metrics and evaluators has all of them, and what it says to run is accepted."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest
import yaml

from xlm_core import composition
from xlm_core.evaluation import evaluators, metrics

FOLDER = Path(metrics.__file__).parent
DATA = sorted(file.stem for file in (FOLDER.parent / "conf" / "data").glob("*.yaml"))


def table(title):
    """The rows of a section's table by their first cell, as lists of cells."""
    section = (FOLDER / "README.md").read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" |") for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip("` "): [cell.strip() for cell in row[1:]] for row in rows}


def read(name):
    """A data config as its file and those that it is made of have it, in much less time than it takes to compose it."""
    config = yaml.safe_load((FOLDER.parent / "conf" / "data" / f"{name}.yaml").read_text())
    parts = [part for part in config.get("defaults", []) if isinstance(part, str) and part != "_self_"]
    return {key: value for part in parts for key, value in read(part).items()} | config


def test_every_evaluator_is_there_with_the_data_that_have_it():
    rows = table("Evaluators")
    ours = {file.stem for file in (FOLDER / "evaluators").glob("*.py") if "\nevaluator = " in file.read_text()}
    assert rows.keys() == ours
    for name, (_, on_with, *_) in rows.items():
        assert re.findall("`(.+?)`", on_with) == [key for key in DATA if name in read(key).get("evaluators", {})], name


@pytest.mark.parametrize("name", table("Evaluators"))
def test_the_command_runs_the_evaluator(name):
    words = shlex.split(table("Evaluators")[name][-1].strip("`"))
    assert words[:5] == ["xlm", "eval", "--predictions", "FILE", "-d"]
    config = composition.check(composition.compose([f"data={words[5]}", *words[6:]]))
    assert name in config.data.evaluators
    if name.startswith("molecules"):
        pytest.importorskip("rdkit")
    make = importlib.import_module(f"{evaluators.__name__}.{name}").evaluator
    inspect.signature(make).bind(**config.data.evaluators[name])


def test_every_metric_is_there():
    plain = {name for name, kind in inspect.getmembers(metrics, inspect.isfunction) if name[0] != "_" and name != "resolve"}
    used = {metric for key in DATA for metric in read(key).get("metrics", [])}
    rows = table("Metrics")
    assert rows.keys() == plain | used | {"xlm_core.tasks.molecules.valid"}
    assert all(metrics.resolve([name]) for name in rows)
