"""Wheels as they are built and installed: what is in them, and that a bad one harms nobody else."""

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

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{distribution}"
version = "1.2.3"
dependencies = {requires}

[project.entry-points."xlm.families"]
{name} = "{package}.plugin"

[tool.hatch.build.targets.wheel]
packages = ["{package}"]
"""


def build(project: Path, out: Path) -> Path:
    """The wheel of a project folder."""
    before = set(out.glob("*.whl"))
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [wheel] = set(out.glob("*.whl")) - before
    return wheel


def install(wheels: list[Path], target: Path) -> None:
    """A wheel of Python files alone is installed by unpacking it."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    return build(ROOT, tmp_path_factory.mktemp("core"))


@pytest.fixture(scope="module", params=PLUGINS, ids=lambda project: project.name)
def plugin(request, tmp_path_factory):
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
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
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


@pytest.fixture(scope="module")
def crowd(tmp_path_factory, core, source, configs_of):
    """Core beside one sound plugin and one of every kind of bad one, all from wheels."""
    place = tmp_path_factory.mktemp("crowd")

    def make(name, *, distribution=None, requires="xlm-core>=1.0,<2", init="", text=source, files=None):
        distribution = distribution or f"xlm-family-{name}"
        package = distribution.replace("-", "_")
        project = place / "projects" / distribution
        facts = {"distribution": distribution, "requires": [requires], "name": name, "package": package}
        modules = {"__init__.py": init, "plugin.py": text, "conf/__init__.py": ""}
        configs = {f"conf/{path}": content for path, content in {**configs_of(name), **(files or {})}.items()}
        for path, content in {**modules, **configs}.items():
            (project / package / path).parent.mkdir(parents=True, exist_ok=True)
            (project / package / path).write_text(content)
        (project / "pyproject.toml").write_text(PROJECT.format(**facts))
        return build(project, place / "dist")

    (place / "dist").mkdir()
    made = [
        make("toy"),
        make("raising", init="raise RuntimeError('no libcudart.so')"),
        make("old", requires="xlm-core<1"),
        make("twin"),
        make("twin", distribution="other-twin"),
        make("misspelt", text=source.replace("def xlm_model(", "def xlm_modle(")),
        make("missing", text=source.replace("@hookimpl\ndef xlm_loss(", "def xlm_loss(")),
        make("torn", files={"model/torn_small.yaml": "dim: [\n"}),
        make("shadow", files={"trainer/cpu.yaml": "max_steps: 1\n"}),
    ]
    install([core, *made], place / "site")
    return place / "site"


def test_the_list_names_all_and_what_metadata_tells(crowd, run):
    rows = {row["name"]: row["status"] for row in json.loads(run(crowd, "families", "list", "--json").stdout)}
    unusable = {"old": "incompatible", "twin": "conflict"}
    sound = ("toy", "raising", "misspelt", "missing", "torn", "shadow")
    assert {name: rows[name] for name in (*sound, *unusable)} == {**dict.fromkeys(sound, "ok"), **unusable}


def test_a_sound_plugin_composes_among_the_bad_ones(crowd, run):
    done = run(crowd, "train", "-f", "toy", "-d", "text", "--cfg", "job")
    assert (done.returncode, done.stderr) == (0, "")
    assert "name: toy" in done.stdout


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("raising", 3, "family 'raising' (xlm-family-raising 1.2.3) does not import: RuntimeError: no libcudart.so"),
        ("old", 3, "family 'old' (xlm-family-old 1.2.3) is unusable: it needs xlm-core <1, and 1.0.0 is installed"),
        ("twin", 3, "is unusable: other-twin 1.2.3 and xlm-family-twin 1.2.3 both provide it"),
        ("misspelt", 3, "family 'misspelt' (xlm-family-misspelt 1.2.3) implements the unknown hook 'xlm_modle'"),
        ("missing", 3, "family 'missing' (xlm-family-missing 1.2.3) does not implement xlm_loss"),
        ("torn", 2, "torn_small.yaml, line 2, is not YAML"),
        ("shadow", 3, "family 'shadow' (xlm-family-shadow 1.2.3) ships trainer/cpu.yaml, which shadows that of core"),
    ],
)
def test_a_bad_plugin_is_named_in_one_sentence(crowd, run, name, code, message):
    done = run(crowd, "train", "-f", name, "-d", "text", "--cfg", "job")
    error, hint = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (code, "")
    assert error.startswith("error: ")
    assert message in error
    assert hint.startswith("hint: ")
