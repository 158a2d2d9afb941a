"""The command line without torch: `xlm_core.run` is replaced by a module that records its calls."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import xlm_core
from xlm_core import composition, families
from xlm_core.cli.app import main
from xlm_core.errors import CheckpointError
from xlm_core.trace import Event, Trace

DATA = """
defaults:
  - override /tokenizer@_global_.tokenizer: numbers_20
name: words
layout: lm
source: {kind: function}
splits: {train: {}, test: {}}
"""


@dataclass
class Called:
    """A command line's outcome."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Estimate:
    value: float
    stderr: float | None
    n: int

    def __str__(self) -> str:
        return f"{self.value} ± {self.stderr}"


@dataclass
class Fake:
    """What `xlm_core.run` is asked, and what it answers."""

    calls: list[tuple[str, Any]] = field(default_factory=list)
    failure: BaseException | None = None
    metrics: dict[str, Estimate] = field(default_factory=lambda: {"test/loss": Estimate(1.5, 0.25, 7)})
    trace: Trace = field(
        default_factory=lambda: Trace([3], [Event(0, 1, "insert", 5, 0.5, float("nan")), Event(1, 0, "insert", 4, 0.5, 0.0)])
    )

    def note(self, name: str, **facts: Any) -> None:
        self.calls.append((name, facts))
        if self.failure is not None:
            raise self.failure

    def result(self, directory: Path) -> Any:
        checkpoint = directory / "best.ckpt"
        return ModuleNamespace(metrics=self.metrics, directory=directory, checkpoint=checkpoint, sample=None, policy=None)


class ModuleNamespace:
    def __init__(self, **values: Any) -> None:
        vars(self).update(values)


def module_of(fake: Fake) -> ModuleType:
    """A stand-in for `xlm_core.run` with the same functions."""
    module: Any = ModuleType("xlm_core.run")

    def train(config, family, directory, resume=None):
        fake.note("train", config=config, family=family.record.name, directory=directory, resume=resume)
        (directory / "config.yaml").write_text(composition.to_yaml(config))
        return fake.result(directory)

    def evaluate(folder, *, split="test", checkpoint="best", overrides=()):
        fake.note("evaluate", folder=folder, split=split, checkpoint=checkpoint, overrides=list(overrides))
        return fake.result(folder)

    def generate(folder, *, prompts, n, seed, checkpoint="best", trace, overrides):
        fake.note(
            "generate", folder=folder, prompts=prompts, n=n, seed=seed, checkpoint=checkpoint, trace=trace, overrides=overrides
        )
        for prompt in prompts or [""] * n:
            yield ModuleNamespace(prompt=prompt, text=f"<{prompt}>", ids=[4, 5], nfe=2, trace=fake.trace if trace else None)

    def assess(config, predictions):
        fake.note("assess", data=config.data.name, evaluators=config.data.evaluators, predictions=predictions)
        return ModuleNamespace(metrics=fake.metrics, directory=predictions.parent, checkpoint=None, policy=None)

    def prepare(config, family=None):
        fake.note("prepare", data=config.data)
        return {"train": {"rows": 10, "folder": "somewhere"}}

    def find(name, family=None, data=None):
        folder = Path(name)
        if not (folder / "config.yaml").exists():
            raise CheckpointError(f"{name} is not a run", "Train one first.")
        return folder

    def reopen(folder, overrides=()):
        cfg = composition.reload(folder / "config.yaml", overrides)
        family = families.load(cfg.family.name)
        return composition.check(cfg, family), family

    for function in (train, evaluate, assess, generate, prepare, find, reopen):
        setattr(module, function.__name__, function)
    return module


@pytest.fixture
def fake(monkeypatch):
    fake = Fake()
    module = module_of(fake)
    monkeypatch.setitem(sys.modules, "xlm_core.run", module)
    monkeypatch.setattr(xlm_core, "run", module, raising=False)
    return fake


@pytest.fixture
def mine(tmp_path):
    """The user's own configs, with a data set `words`."""
    folder = tmp_path / "mine"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "words.yaml").write_text(DATA)
    return folder


@pytest.fixture
def xlm(tmp_path, monkeypatch, capfd):
    """Run a command line in a folder of its own."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    for name in ("XLM_DEBUG", "XLM_RUN_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)

    def xlm(*arguments: object) -> Called:
        words = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["xlm", *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(words)
        out, err = capfd.readouterr()
        return Called(int(caught.value.code or 0), out, err)

    return xlm
