from __future__ import annotations

import json


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
