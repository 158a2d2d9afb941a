"""One sound plugin among one of every kind of bad one: wheels that are built, and installed by pip. What is wrong with a family
is shown and said of that family, and harms no other."""

from __future__ import annotations

import json
import re
import zipfile

import pytest

# With dev-mode-dirs, hatchling needs nothing else for an editable install.
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{distribution}"
version = "{version}"
dependencies = {requires}

[project.entry-points."xlm.families"]
{name} = "{package}.plugin"

[tool.hatch.build]
dev-mode-dirs = ["."]

[tool.hatch.build.targets.wheel]
packages = ["{package}"]
"""
WORDS = """
defaults:
  - override /tokenizer@_global_.tokenizer: words
  - _self_
name: toy_words
layout: lm
source: {kind: function, function: xlm_family_toy.words.rows}
preprocess: xlm_family_toy.words.encode
splits: {train: {}, test: {}}
"""


@pytest.fixture(scope="module")
def crowded(tmp_path_factory, core, source, configs_of, build, environment):
    place = tmp_path_factory.mktemp("crowd")

    def project(name, *, distribution=None, version="1.2.3", requires="xlm-core>=1.0,<2", init="", text=source, files=None):
        """The repository of a plugin. Returns its folder."""
        distribution = distribution or f"xlm-family-{name}"
        package = distribution.replace("-", "_")
        folder = place / f"{distribution}-{version}"
        facts = {"distribution": distribution, "version": version, "requires": [requires], "name": name, "package": package}
        modules = {"__init__.py": init, "plugin.py": text, "conf/__init__.py": ""}
        configs = {f"conf/{path}": content for path, content in {**configs_of(name), **(files or {})}.items()}
        for path, content in {**modules, **configs}.items():
            (folder / package / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / package / path).write_text(content)
        (folder / "pyproject.toml").write_text(PROJECT.format(**facts))
        return folder

    def wheel(*arguments, **options):
        return build(project(*arguments, **options), place / "dist")

    (place / "dist").mkdir()
    made = [
        wheel("toy", files={"data/toy_words.yaml": WORDS}),
        wheel("raising", init="print('hello'); raise RuntimeError('no libcudart.so')"),
        wheel("dying", init="import os; os._exit(9)"),
        wheel("old", requires="xlm-core<1"),
        wheel("ahead", requires="xlm-core>=2,<3"),
        wheel("twin"),
        wheel("twin", distribution="other-twin"),
        wheel("misspelt", text=source.replace("def xlm_model(", "def xlm_modle(")),
        wheel("missing", text=source.replace("@hookimpl\ndef xlm_loss(", "def xlm_loss(")),
        wheel("torn", files={"model/torn_large.yaml": "dim: [\n"}),
        wheel("shadow", files={"trainer/cpu.yaml": "max_steps: 1\n"}),
        wheel("stray", files={"data/words.yaml": "name: words\n"}),
        wheel("garbled", text="def xlm_model(:\n"),
    ]
    installed = environment(place / "environment")
    installed.pip(core, *made, "-e", project("double", version="2.0"))
    # What pip would put in another folder that is on the path.
    with zipfile.ZipFile(wheel("double")) as archive:
        archive.extractall(place / "elsewhere")
    return installed, place / "elsewhere"


@pytest.fixture(scope="module")
def crowd(crowded):
    """Runs commands where all of them are installed."""
    return crowded[0]


@pytest.fixture
def elsewhere(crowded):
    """A folder for PYTHONPATH where `double` is installed as a wheel of 1.2.3; the environment has an editable 2.0."""
    return crowded[1]


@pytest.fixture(scope="module")
def listed(crowd):
    done = crowd("families", "list", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return {row["name"]: (row["status"], row["detail"]) for row in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def loaded(crowd):
    done = crowd("families", "list", "--load", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return {row["name"]: (row["status"], row["detail"]) for row in json.loads(done.stdout)}


AT_REST = {
    "toy": ("ok", ""),
    "double": ("ok", ""),
    "old": ("incompatible", "it needs xlm-core <1, and 1.0.0 is installed"),
    "ahead": ("incompatible", "it needs xlm-core <3,>=2, and 1.0.0 is installed"),
    "twin": ("conflict", "other-twin 1.2.3 and xlm-family-twin 1.2.3 both provide it"),
    "misspelt": ("broken", "implements the unknown hook 'xlm_modle'. Did you mean 'xlm_model'?"),
    "torn": ("broken", "ships model/torn_large.yaml, which, line 2, is not YAML: did not find expected node content"),
    "shadow": ("broken", "ships trainer/cpu.yaml, which shadows that of core"),
    "stray": ("broken", "ships data/words.yaml, which does not bear the family's name"),
    "garbled": ("broken", "is no Python in plugin.py, line 1: invalid syntax"),
}
AWAKE = {
    "raising": ("broken", "does not import: RuntimeError: no libcudart.so"),
    "dying": ("broken", "ends Python with exit code 9: it said nothing"),
    "missing": ("broken", "does not implement xlm_loss"),
}


def test_the_list_shows_what_files_tell(listed):
    assert {name: listed[name] for name in AT_REST} == AT_REST
    assert {listed[name] for name in AWAKE} == {("ok", "")}


def test_with_load_it_shows_the_rest(loaded):
    assert {name: loaded[name] for name in AWAKE} == AWAKE
    sound = {name for name, (status, _) in loaded.items() if status == "ok"}
    assert sound == {"toy", "double"}
    assert {name: loaded[name][0] for name in AT_REST} == {name: status for name, (status, _) in AT_REST.items()}


SENTENCES = {
    "raising": (3, "family 'raising' (xlm-family-raising 1.2.3) does not import: RuntimeError: no libcudart.so"),
    "old": (3, "family 'old' (xlm-family-old 1.2.3) is unusable: it needs xlm-core <1, and 1.0.0 is installed"),
    "ahead": (3, "family 'ahead' (xlm-family-ahead 1.2.3) is unusable: it needs xlm-core <3,>=2, and 1.0.0 is"),
    "twin": (3, "is unusable: other-twin 1.2.3 and xlm-family-twin 1.2.3 both provide it"),
    "misspelt": (3, "family 'misspelt' (xlm-family-misspelt 1.2.3) implements the unknown hook 'xlm_modle'"),
    "missing": (3, "family 'missing' (xlm-family-missing 1.2.3) does not implement xlm_loss"),
    "torn": (2, "torn_large.yaml, line 2, is not YAML"),
    "shadow": (3, "family 'shadow' (xlm-family-shadow 1.2.3) ships trainer/cpu.yaml, which shadows that of core"),
    "stray": (3, "family 'stray' (xlm-family-stray 1.2.3) ships data/words.yaml, which does not bear the family's name"),
    "garbled": (3, "family 'garbled' (xlm-family-garbled 1.2.3) does not import: SyntaxError"),
}
ASK = """
import contextlib, io, json, sys
from xlm_core.cli.app import main
for name in sys.argv[1:]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(["train", "-f", name, "-d", "text", "--cfg", "job", f"model={name}_large"])
        except SystemExit as stop:
            code = stop.code
    print(json.dumps([name, code, out.getvalue(), err.getvalue()]))
"""


@pytest.fixture(scope="module")
def asked(crowd):
    """What the command that asks for each of them says; all in one process, which is quicker."""
    lines = crowd.script(ASK, *SENTENCES).stdout.splitlines()
    return {name: said for name, *said in map(json.loads, lines)}


@pytest.mark.parametrize("name", SENTENCES)
def test_a_bad_plugin_is_named_in_one_sentence(asked, name):
    code, message = SENTENCES[name]
    found, out, err = asked[name]
    error, hint = (line for line in err.splitlines() if line != "hello")
    assert (found, out, error.startswith("error: "), hint.startswith("hint: ")) == (code, "", True, True)
    assert message in error


def test_a_sound_one_works_among_them(crowd):
    done = crowd("train", "-f", "toy", "-d", "text", "--cfg", "job")
    assert (done.returncode, done.stderr) == (0, "")
    assert "name: toy\n" in done.stdout


def test_so_does_a_real_one_on_the_data_of_another_plugin(crowd):
    done = crowd("train", "-f", "arlm", "-d", "toy_words", "--cfg", "job", own=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "name: toy_words\n" in done.stdout
    assert "name: arlm\n" in done.stdout
    sets = {row["name"] for row in json.loads(crowd("data", "list", "--json").stdout)}
    assert "toy_words" in sets
    assert "words" not in sets


def test_one_that_is_installed_twice_is_the_first_on_the_path(crowd, elsewhere):
    [row] = [
        row for row in json.loads(crowd("families", "list", "--json", path=str(elsewhere)).stdout) if row["name"] == "double"
    ]
    assert (row["version"], row["status"]) == ("1.2.3", "ok")
    assert re.fullmatch(rf"installed twice: 1\.2\.3 in {elsewhere} is used, 2\.0 in \S+ is not", row["detail"])
    done = crowd("train", "-f", "double", "-d", "text", "--cfg", "job", path=str(elsewhere))
    assert (done.returncode, done.stderr) == (0, "")


def test_one_whose_code_may_be_of_another_version_is_refused(crowd, elsewhere, tmp_path):
    """Metadata of one place before the code of another."""
    (tmp_path / "xlm_family_double-1.0.dist-info").mkdir()
    for file in ("METADATA", "entry_points.txt"):
        text = next(elsewhere.glob(f"*.dist-info/{file}")).read_text()
        (tmp_path / "xlm_family_double-1.0.dist-info" / file).write_text(text.replace("Version: 1.2.3", "Version: 1.0"))
    done = crowd("train", "-f", "double", "-d", "text", "--cfg", "job", path=str(tmp_path))
    error, hint = done.stderr.splitlines()
    assert done.returncode == 3
    assert f"is unusable: it is installed twice, 1.0 in {tmp_path} and 2.0 in " in error
    assert hint == "hint: Uninstall all of these but one."
