from __future__ import annotations

import ast
import json
import subprocess
import sys

import pytest


def test_listing_names_every_family_and_its_state(xlm, site):
    site.install("toy")
    site.install("old", requires=("xlm-core<1",))
    site.install("bad", init="raise RuntimeError")
    called = xlm("families", "list", "--json")
    rows = {row["name"]: row for row in json.loads(called.out)}
    assert (called.code, called.err) == (0, "")
    assert rows["toy"] == {"name": "toy", "distribution": "xlm-family-toy", "version": "1.2.3", "status": "ok", "detail": ""}
    assert rows["old"]["status"] == "incompatible"
    assert rows["bad"]["status"] == "ok"
    lines = xlm("families", "list").out.splitlines()
    assert lines[0].split() == ["name", "distribution", "version", "status", "detail"]
    assert ["toy", "xlm-family-toy", "1.2.3", "ok"] in [line.split() for line in lines]


def test_showing_one(xlm, site):
    site.install("toy")
    shown = json.loads(xlm("families", "show", "toy", "--json").out)
    assert shown["layouts"] == ["lm", "infill"]
    assert shown["package"] == "xlm-family-toy 1.2.3"
    assert shown["configs"]["model"] == ["toy_large", "toy_small"]
    assert shown["configs"]["experiment"] == ["words_toy", "words_toy_cpu"]
    assert "layouts           lm, infill" in xlm("families", "show", "toy").out


def test_showing_a_broken_one(xlm, site):
    site.install("bad", init="raise RuntimeError('no libcudart.so')")
    called = xlm("families", "show", "bad")
    assert called.code == 3
    assert "family 'bad' (xlm-family-bad 1.2.3) does not import" in called.err


def test_checking_one_that_is_sick(xlm, site):
    """The toy's files are sound, and its parts are lists."""
    package = site.install("toy")
    site.write(f"{package}/conformance.py", "expected_failures = {'imports_are_light': 'in a hurry'}\n")
    called = xlm("families", "check", "toy")
    assert (called.code, called.err) == (3, "")
    lines = dict(line.split(maxsplit=1) for line in called.out.splitlines())
    assert lines["imports_are_light"].startswith("failed: declared to fail because 'in a hurry', it is ok")
    assert lines["configs_compose"] == "ok"
    assert lines["parts_build"].startswith("failed: AttributeError: 'list' object")
    assert lines["traces_replay"] == "not applicable: the parts of the family do not build"


def test_checking_in_json(xlm, monkeypatch):
    from xlm_core.testing import report

    monkeypatch.setattr(report, "CHECKS", report.CHECKS[:2])
    called = xlm("families", "check", "arlm", "--json")
    found = json.loads(called.out)
    assert (called.code, found["name"], found["passed"]) == (0, "arlm", True)
    assert [(row["check"], row["status"]) for row in found["checks"]] == [
        ("imports_are_light", "ok"),
        ("configs_are_prefixed", "ok"),
    ]
    assert set(found["checks"][0]) == {"check", "status", "reason", "seconds"}


def test_checking_one_that_does_not_import(xlm, site):
    site.install("bad", init="raise RuntimeError('no libcudart.so')")
    called = xlm("families", "check", "bad")
    assert (called.code, called.out) == (3, "")
    assert "family 'bad' (xlm-family-bad 1.2.3) does not import" in called.err


def test_the_list_of_many_imports_none_of_them_nor_anything_heavy(site):
    """Wheels by the dozen cost reading their files. `python tests/benchmarks/listing.py` shows how much."""
    for number in range(30):
        site.install(f"dummy{number}", init="raise RuntimeError('imported')")
    probe = (
        "import sys\nfrom xlm_core.cli.app import main\ntry:\n    main(['families', 'list'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    *lines, modules = done.stdout.splitlines()
    assert sum(line.startswith("dummy") and line.split()[3] == "ok" for line in lines) == 30
    imported = set(ast.literal_eval(modules))
    assert not {name for name in imported if name.startswith("xlm_family_")}
    heavy = {"torch", "lightning", "transformers", "datasets", "hydra", "omegaconf", "pydantic", "rich"}
    assert not imported & heavy


@pytest.mark.parametrize(
    ("plugin", "status", "detail"),
    [
        (
            "@hookimpl\ndef xlm_modle(cfg): ...\n",
            "broken",
            "implements the unknown hook 'xlm_modle'. Did you mean 'xlm_model'?",
        ),
        ("@xlm_core.hookimpl(tryfirst=True)\ndef xlm_lost(cfg): ...\n", "broken", "implements the unknown hook 'xlm_lost'."),
        ("@hookimpl(specname='xlm_model')\ndef build(cfg): ...\n", "ok", ""),
        ("@hookimpl(optionalhook=True)\ndef xlm_later(cfg): ...\n", "ok", ""),
        ("@hookimpl\ndef xlm_commands(): ...\n", "ok", ""),
        ("def xlm_modle(cfg): ...\n", "ok", ""),
        ("x = (\n", "broken", "is no Python in plugin.py, line 1: '(' was never closed"),
        ("x = '\\0'\n\0", "broken", "is no Python in plugin.py"),
    ],
)
def test_hooks_are_read_without_being_imported(xlm, site, plugin, status, detail):
    site.install("toy", plugin=plugin, init="raise RuntimeError('imported')")
    [row] = [row for row in json.loads(xlm("families", "list", "--json").out) if row["name"] == "toy"]
    assert row["status"] == status
    assert row["detail"].startswith(detail)
    assert row["detail"] != "" or status == "ok"


def test_a_module_that_is_not_there(xlm, site):
    package = site.install("toy")
    (site.folder / package / "plugin.py").rename(site.folder / package / "other.py")
    [row] = [row for row in json.loads(xlm("families", "list", "--json").out) if row["name"] == "toy"]
    assert (row["status"], row["detail"]) == ("broken", "has no module xlm_family_toy.plugin")
