"""Wheels as they are built and installed: what is in them, and that core works alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))

OWN = ",".join(path.name.removeprefix("xlm-family-") for path in PLUGINS)


def install(wheels: list[Path], target: Path) -> None:
    """A wheel of Python files alone is installed by unpacking it."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)


@pytest.fixture(scope="module", params=PLUGINS, ids=lambda project: project.name)
def plugin(request, build, tmp_path_factory):
    """Package and wheel of each plugin."""
    project = request.param
    return project / "src" / project.name.replace("-", "_"), build(project, tmp_path_factory.mktemp("plugin"))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command of the core that is installed in a folder, from outside the tree."""

    def run(site, *arguments):
        environment = {**os.environ, "PYTHONPATH": str(site), "XLM_DISABLE_FAMILIES": OWN}
        command = [sys.executable, "-m", "xlm_core", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def tracked(folder: Path) -> set[str]:
    """The files of a package as they should arrive."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    found = (path for path in files if "_cache/" not in path.as_posix())  # a linter's
    return {path.relative_to(folder.parent).as_posix() for path in found}


def test_the_wheel_of_core_holds_the_package_and_nothing_else(core):
    found = {name for name in names(core) if ".dist-info/" not in name}
    assert found == tracked(ROOT / "xlm_core")
    assert {"xlm_core/py.typed", "xlm_core/conf/train.yaml", "xlm_core/conf/data/star_easy.yaml"} <= found


def test_the_wheel_of_a_plugin_holds_the_package_and_nothing_else(plugin):
    package, wheel = plugin
    found = {name for name in names(wheel) if ".dist-info/" not in name}
    assert found == tracked(package)
    assert {f"{package.name}/py.typed", f"{package.name}/conf/__init__.py"} <= found
    assert any(name.endswith(".dist-info/entry_points.txt") for name in names(wheel))


def test_a_plugin_needs_core_in_a_range_that_pypi_cannot_meet(plugin):
    with zipfile.ZipFile(plugin[1]) as archive:
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith("METADATA"))).decode()
    assert "Requires-Dist: xlm-core<2,>=1.0\n" in metadata


def test_core_alone(core, run, tmp_path):
    install([core], tmp_path / "alone")
    listed = run(tmp_path / "alone", "families", "list", "--json")
    assert {row["status"] for row in json.loads(listed.stdout)} <= {"disabled"}
    assert run(tmp_path / "alone", "--help").returncode == 0
    train = run(tmp_path / "alone", "train", "--family", "absent", "--data", "star_easy")
    assert train.returncode == 3
    assert "pip install xlm-family-absent" in train.stderr
