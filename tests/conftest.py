"""Plugins for tests: real packages with real wheel metadata, in a folder of their own on `sys.path`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from textwrap import dedent

import pytest

PLUGIN = """
from dataclasses import dataclass, field

from xlm_core.hookspecs import hookimpl
from xlm_core.protocols import FamilyInfo


@dataclass
class Model:
    dim: int = 8
    rate: float = 0.5


@dataclass
class Empty:
    pass


@dataclass
class Part:
    length: int = 4


@hookimpl
def xlm_info():
    configs = {"model": Model, "loss": Empty, "predictor": Part, "collator": Part}
    return FamilyInfo(title="A toy", paper="", layouts=("lm", "infill"), likelihood="none", configs=configs)


@hookimpl
def xlm_model(cfg, tokenizer):
    return ["model", cfg, tokenizer]


@hookimpl
def xlm_loss(cfg, model):
    return ["loss", cfg, model]


@hookimpl
def xlm_predictor(cfg, model, tokenizer):
    return ["predictor", cfg, model, tokenizer]


@hookimpl
def xlm_collator(cfg, tokenizer, layout, stage):
    return ["collator", cfg, tokenizer, layout, stage]
"""

FAMILY = """
# @package _global_
defaults:
  - /model: {name}_small
  - /loss: {name}
  - /predictor: {name}
  - /collator: {name}
  - _self_
family:
  name: {name}
"""


def configs(name: str) -> dict[str, str]:
    """The config files of a family, by path inside `conf`."""
    return {
        f"family/{name}.yaml": FAMILY.format(name=name),
        f"model/{name}_small.yaml": "dim: 8\n",
        f"model/{name}_large.yaml": "dim: 64\nrate: 0.25\n",
        f"loss/{name}.yaml": "{}\n",
        f"predictor/{name}.yaml": "length: ${data.length}\n",
        f"predictor/{name}_short.yaml": "{}\n",
        f"collator/{name}.yaml": "length: ${data.length}\n",
        f"experiment/words_{name}.yaml": (
            f"# @package _global_\ndefaults:\n  - override /model: {name}_large\n  - override /scheduler: cosine\n  - _self_\n"
            "trainer:\n  max_steps: 77\n"
        ),
        f"experiment/words_{name}_cpu.yaml": "# @package _global_\ntrainer:\n  max_steps: 7\n",
    }


class Site:
    """A folder in which packages are installed, as in site-packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(
        self,
        name: str,
        *,
        distribution: str | None = None,
        requires: tuple[str, ...] = ("xlm-core>=1.0,<2",),
        plugin: str = PLUGIN,
        init: str = "",
        files: dict[str, str] | None = None,
        twice: bool = False,
    ) -> str:
        """Install a family; its package is called after its distribution. Returns the package's name."""
        distribution = distribution or f"xlm-family-{name}"
        package = distribution.replace("-", "_")
        modules = {"__init__.py": init, "plugin.py": dedent(plugin), "conf/__init__.py": ""}
        for path, text in {**modules, **{f"conf/{path}": text for path, text in (files or configs(name)).items()}}.items():
            self.write(f"{package}/{path}", text)
        lines = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        info = f"{package}-1.2.3.dist-info"
        self.write(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2.3\n{lines}")
        point = f"{name} = {package}.plugin\n"
        self.write(f"{info}/entry_points.txt", f"[xlm.families]\n{point}{point if twice else ''}")
        importlib.invalidate_caches()
        return package

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Installs families for one test, in this process and, through PYTHONPATH, in those that it starts."""
    folder = tmp_path / "site"
    folder.mkdir()
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    yield Site(folder)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture(scope="session")
def source() -> str:
    """The `plugin.py` of a sound family."""
    return PLUGIN


@pytest.fixture(scope="session")
def configs_of():
    """The config files of a sound family, by its name."""
    return configs
