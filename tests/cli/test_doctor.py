from __future__ import annotations

import json

import pytest

from xlm_core.cli import doctor
from xlm_core.families import installed


@pytest.fixture
def findings(xlm, monkeypatch):
    """What doctor finds, without the hardware probe, which imports torch."""
    monkeypatch.setattr(doctor, "_hardware", lambda: doctor.Finding("hardware", "ok", ""))

    def findings():
        called = xlm("doctor", "--json")
        return called.code, {row["check"]: (row["status"], row["detail"]) for row in json.loads(called.out)}

    return findings


def test_each_family_is_looked_at_by_itself(findings, site, monkeypatch, configs_of):
    monkeypatch.setenv("XLM_DISABLE_FAMILIES", ",".join([*installed(), "away"]))
    site.install("toy")
    site.install("away")
    code, found = findings()
    assert found["family toy"][0] == "ok"
    assert "xlm-family-toy 1.2.3" in found["family toy"][1]
    assert found["family away"][0] == "note"
    assert found["core"][0] == "ok"
    assert code == 0
    site.install("bad", init="raise RuntimeError('no libcudart.so')")
    site.install("old", requires=("xlm-core<1",))
    site.install("torn", files={**configs_of("torn"), "model/torn_small.yaml": "dim: [\n"})
    code, found = findings()
    assert {name: found[f"family {name}"][0] for name in ("toy", "bad", "old", "torn")} == {
        "toy": "ok",
        "bad": "fail",
        "old": "fail",
        "torn": "fail",
    }
    assert "no libcudart.so" in found["family bad"][1]
    assert "torn_small.yaml, line" in found["family torn"][1]
    assert code == 1


def test_another_command_of_the_same_name_is_red(findings, site, monkeypatch):
    monkeypatch.setenv("XLM_DISABLE_FAMILIES", ",".join(installed()))
    site.write("other-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    site.write("other-1.0.dist-info/entry_points.txt", "[console_scripts]\nxlm = other:main\n")
    code, found = findings()
    assert found["command"] == ("fail", "these packages all bring a command xlm: other 1.0, xlm-core 1.0.0")
    assert code == 1


def test_little_disk_is_red(findings, monkeypatch):
    monkeypatch.setenv("XLM_DISABLE_FAMILIES", ",".join(installed()))
    monkeypatch.setattr(doctor, "ENOUGH_DISK", 1e30)
    code, found = findings()
    assert (code, found["disk"][0]) == (1, "fail")
