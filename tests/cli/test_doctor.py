from __future__ import annotations

import json
import re

import pytest

from xlm_core.cli import doctor
from xlm_core.families import installed


@pytest.fixture
def findings(xlm, monkeypatch):
    """What doctor finds, without the hardware probe, which imports torch."""
    monkeypatch.setattr(doctor, "_hardware", lambda: [doctor.Finding("torch", "ok", "")])

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


def test_each_family_has_its_time_and_its_error(findings, site, monkeypatch):
    monkeypatch.setenv("XLM_DISABLE_FAMILIES", ",".join(installed()))
    site.install("noisy", init="print('{}'); import os; os.write(1, b'no JSON')")
    site.install("dying", init="import os; os._exit(7)")
    site.install("bare", files={"data/bare_words.yaml": "name: words"})
    code, found = findings()
    assert found["family noisy"][0] == "ok"
    assert re.fullmatch(r"xlm-family-noisy 1\.2\.3, loads in \d+\.\d\d s, its configs compose", found["family noisy"][1])
    assert found["family dying"] == ("fail", "xlm-family-dying 1.2.3, ends Python with exit code 7: it said nothing")
    assert found["family bare"][0] == "fail"
    assert found["family bare"][1].endswith(" s, ships no conf/family/bare.yaml")
    assert code == 1


def test_one_that_hangs_is_given_up(findings, site, monkeypatch):
    monkeypatch.setenv("XLM_DISABLE_FAMILIES", ",".join(installed()))
    monkeypatch.setattr("xlm_core.diagnosis.TIMEOUT", 1.0)
    site.install("hanging", init="import time; time.sleep(600)")
    assert findings()[1]["family hanging"] == ("fail", "xlm-family-hanging 1.2.3, does not load within 1 s")


def test_the_hardware_is_asked_in_a_process_of_its_own(monkeypatch):
    """torch that cannot be imported is a finding, and not the end of doctor."""
    monkeypatch.setattr(doctor, "PROBE", "import os; os.abort()")
    [finding] = doctor._hardware()
    assert (finding.check, finding.status) == ("torch", "fail")
    monkeypatch.setattr(doctor, "PROBE", "print('a warning'); print('{\"dtypes\": \"float32\"}')")
    assert list(doctor._hardware()) == [("dtypes", "ok", "float32")]


def test_dtypes_are_those_that_multiply_rightly(monkeypatch):
    import torch

    from xlm_core import inspection

    def product(one, other):
        if one.dtype is torch.bfloat16:
            raise RuntimeError("no such kernel")
        return multiply(one, other) + (one.dtype is torch.float16)

    multiply = torch.Tensor.__matmul__
    assert inspection.hardware()["dtypes"].startswith("float32, bfloat16, float16; runs take ")
    monkeypatch.setattr(torch.Tensor, "__matmul__", product)
    assert inspection.hardware()["dtypes"].startswith("float32; runs take ")
    assert inspection.hardware()["torch"].startswith(torch.__version__)
