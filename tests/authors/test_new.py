"""`xlm families new`: what it writes, where, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from xlm_core.errors import ConfigError, FamilyError, XlmError
from xlm_core.scaffold import repository
from xlm_core.scaffold.repository import contents, renamed, write

ROOT = Path(__file__).parents[2]
PARTS = {"__init__", "plugin", "config", "model", "loss", "predictor", "collator"}


@pytest.mark.parametrize("template", ["minimal", "ilm", "mlm", "arlm"])
def test_a_repository_has_the_files_of_our_plugins_and_what_they_need_to_stand_alone(template):
    files = contents("demo_family", template)
    package = "src/xlm_family_demo_family"
    assert {"LICENSE", "README.md", ".gitignore", ".github/workflows/tests.yml", "tests/test_conformance.py"} <= set(files)
    assert {f"{package}/{part}.py" for part in PARTS} | {f"{package}/py.typed"} <= set(files)
    groups = {path.split("/")[3] for path in files if path.startswith(f"{package}/conf/") and path.endswith(".yaml")}
    assert groups == {"family", "model", "loss", "predictor", "collator", "experiment"}
    assert f"{package}/conf/experiment/star_easy_demo_family_cpu.yaml" in files
    project = tomllib.loads(files["pyproject.toml"])
    assert project["project"]["name"] == "xlm-family-demo-family"
    assert project["project"]["dependencies"] == ["xlm-core>=1.0,<2"]
    assert project["project"]["entry-points"]["xlm.families"] == {"demo_family": "xlm_family_demo_family.plugin"}
    assert "Permission is hereby granted" in files["LICENSE"]
    assert "The XLM authors" in files["LICENSE"]
    assert 'family = "demo_family"' in files["tests/test_conformance.py"]


@pytest.mark.parametrize("template", ["minimal", "ilm", "mlm", "arlm"])
def test_nothing_is_called_after_the_template_any_more(template):
    """But for the sentence that says where the copy comes from."""
    files = contents("demo_family", template)
    origin = re.compile(rf"(?<![A-Za-z])(?:{template}|{template.capitalize()}(?=[A-Z]))(?![a-z])")
    found = {path: origin.findall(path + text) for path, text in files.items()}
    left = {path: names for path, names in found.items() if names}
    assert left == ({} if template == "minimal" else {"README.md": [template] * 2})


def test_the_page_has_the_sections_of_ours():
    def headings(text):
        return [line for line in text.splitlines() if line.startswith("## ")]

    page = contents("demo_family")["README.md"]
    ours = (ROOT / "plugins" / "xlm-family-mlm" / "README.md").read_text()
    assert sorted(headings(page)) == sorted(headings(ours))
    assert "](.." not in page


def test_the_page_of_a_copy_is_that_of_its_origin(site):
    """With its own name, our commands, and no word of tests and links that were left behind."""
    site.install("toy", requires=("xlm-core>=1.0,<2", "einops>=0.8", 'pytest; extra == "test"'))
    described = "# xlm-family-toy\n\nA puppet ([XLM](../../README.md)).\n\n```\npip install xlm-family-toy\n```\n\nOf wood.\n\n"
    sections = "## Loss\n\n`ToyLoss` of `toy`.\n\n## Testing\n\nWith `tests/test_wood.py`.\n\n## API\n\nNone.\n"
    with (site.folder / "xlm_family_toy-1.2.3.dist-info" / "METADATA").open("a") as file:
        file.write(f"\n{described}{sections}")
    files = contents("doll", "toy")
    page = files["README.md"]
    assert page.startswith("# xlm-family-doll\n")
    assert "It began as a copy of the family `toy` of xlm-family-toy 1.2.3." in page
    assert "A puppet (XLM).\n\nOf wood.\n\n## Loss\n\n`DollLoss` of `doll`.\n\n## Testing\n\n" in page
    assert "pip install xlm-family" not in page
    assert "tests/test_wood.py" not in page
    assert page.index("tests/test_conformance.py") < page.index("## API\n\nNone.\n")
    assert tomllib.loads(files["pyproject.toml"])["project"]["dependencies"] == ["xlm-core>=1.0,<2", "einops>=0.8"]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("xlm_family_ilm.plugin", "xlm_family_my_ilm.plugin"),
        ("pip install xlm-family-ilm", "pip install xlm-family-my-ilm"),
        ("IlmModel, IlmBatch; Ilm's", "MyIlmModel, MyIlmBatch; Ilm's"),
        ("conf/experiment/star_easy_ilm_cpu.yaml", "conf/experiment/star_easy_my_ilm_cpu.yaml"),
        ("override /model: ilm_small", "override /model: my_ilm_small"),
        ("film, ILM, ilm2, filmLoss", "film, ILM, ilm2, filmLoss"),
    ],
)
def test_a_name_is_changed_where_it_is_one(text, expected):
    """Once each, though the new name holds the old one."""
    assert renamed(text, "ilm", "my_ilm") == expected


@pytest.mark.parametrize(
    "name", ["", "My", "2d", "a-b", "a b", "_a", "a_", "a__b", "ä", "a/b", "..", "class", "no", "on", "true", "null", "inf"]
)
def test_names_that_would_not_work_are_refused(name, tmp_path):
    with pytest.raises(ConfigError, match="a family cannot be called"):
        write(name, folder=tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_names_that_are_taken_are_refused(site, tmp_path):
    site.install("old", requires=("xlm-core<1",))
    site.write("xlm_family_stray/__init__.py", "")
    for name, reason in (("ilm", "xlm-family-ilm 1.0.0"), ("old", "xlm-family-old 1.2.3"), ("stray", "xlm_family_stray")):
        with pytest.raises(ConfigError, match=rf"{reason}.* is installed|is installed.*{reason}"):
            write(name, folder=tmp_path / "new")


@pytest.mark.parametrize(
    "template, message, hint", [("vae", "no family named 'vae'", "pip install xlm-family-vae"), ("ill", "no family", "ilm")]
)
def test_a_template_that_is_not_installed_is_one_sentence(template, message, hint, tmp_path):
    with pytest.raises(FamilyError, match=message) as caught:
        write("mine", template, tmp_path / "new")
    assert hint in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_left_alone(tmp_path):
    full, file = tmp_path / "full", tmp_path / "file"
    full.mkdir()
    (full / "notes.txt").write_text("mine")
    file.write_text("mine")
    for place in (full, file):
        with pytest.raises(ConfigError, match="exists and is not empty"):
            write("mine", folder=place)
    assert [path.name for path in full.iterdir()] == ["notes.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]


def test_an_empty_folder_is_filled_and_stays_the_same_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = os.stat(".").st_ino
    write("mine", folder=Path("."))
    assert (os.stat(".").st_ino, os.stat(tmp_path).st_ino) == (before, before)
    assert (tmp_path / "pyproject.toml").exists()
    assert not list(tmp_path.parent.glob(f".{tmp_path.name}-*"))


def test_what_fails_half_way_leaves_nothing(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(repository.os, "replace", full)
    with pytest.raises(XlmError, match="No space left on device"):
        write("mine", folder=tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_caches_of_a_template_are_not_copied(site):
    package = site.install("toy")
    (site.folder / package / "__pycache__").mkdir(exist_ok=True)
    (site.folder / package / "__pycache__" / "plugin.pyc").write_bytes(b"\xff")
    assert not [path for path in contents("doll", "toy") if "cache" in path]
    (site.folder / package / "weights.bin").write_bytes(b"\xff")
    with pytest.raises(FamilyError, match="not text"):
        contents("doll", "toy")


def test_the_workflow_runs_what_the_page_says():
    files = contents("demo_family")
    steps = yaml.safe_load(files[".github/workflows/tests.yml"])["jobs"]["tests"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]
    extras = tomllib.loads(files["pyproject.toml"])["project"]["optional-dependencies"]["dev"]
    tools = {command.split()[0] for command in commands} - {"pip"}
    assert tools == {"ruff", "mypy", "pytest"}
    assert tools <= {word for extra in extras for word in re.findall(r"[a-z]+", extra)} | {"pytest"}
    assert "mypy -p xlm_family_demo_family" in commands
    for line in ('pip install -e ".[dev]"', "pytest", "pip wheel --no-deps -w dist ."):
        assert line in commands
        assert f"\n{line}\n" in files["README.md"]


def test_the_command_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    from xlm_core.cli.app import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["families", "new", "demo_family"])
    assert not caught.value.code
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert ["cd", "xlm-family-demo-family"] in lines
    assert ["xlm", "train", "--family", "demo_family", "--data", "star_easy", "--preset", "cpu"] in lines
    assert (tmp_path / "xlm-family-demo-family" / "pyproject.toml").exists()
    with pytest.raises(SystemExit) as caught:
        main(["families", "new", "demo_family"])
    assert caught.value.code == 2
    assert "exists and is not empty" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["families", "new", "other", "--template", "vae"])
    assert caught.value.code == 3


def test_templates_complete():
    from xlm_core.cli.families import complete_template

    assert complete_template("mi") == ["minimal"]
    assert {"minimal", "ilm", "mlm", "arlm"} <= set(complete_template(""))
    assert json.dumps(complete_template("zzz")) == "[]"
