from __future__ import annotations

import json

import pytest

from xlm_core.run import compare as library_compare


@pytest.fixture
def runs(tmp_path, fake, monkeypatch):
    """Two measured runs, and the library's own comparison behind the command."""
    import sys

    monkeypatch.setattr(sys.modules["xlm_core.run"], "compare", library_compare, raising=False)
    found = []
    for name, length in (("a", 8), ("b", 9)):
        folder = tmp_path / name
        (folder / "results").mkdir(parents=True)
        (folder / "config.yaml").write_text("")
        metrics = {"test/nfe": {"value": 2.0, "stderr": None, "n": 1}, "test/perplexity": {"value": 3.0, "stderr": 0.5, "n": 4}}
        kept = {"family": "arlm", "policy": {"wrapping": {"length": length}, "hash": name}, "metrics": metrics}
        (folder / "results" / "test_step0000003.json").write_text(json.dumps(kept))
        found.append(folder)
    return found


def test_likelihoods_of_different_policies_are_left_out_and_that_is_said(xlm, runs):
    called = xlm("compare", *runs)
    assert [line.split()[0] for line in called.out.splitlines()] == ["metric", "test/nfe"]
    assert called.err == "test/perplexity is not compared: the runs differ in wrapping.\n"
    made = json.loads(xlm("compare", *runs, "--json").out)
    assert made["not_compared"] == {"test/perplexity": "the runs differ in wrapping"}
    assert made["metrics"].keys() == {"test/nfe"}


def test_a_run_that_was_not_measured(xlm, runs):
    called = xlm("compare", *runs, "--split", "validation")
    assert called.code == 2
    assert "has no result of the split validation" in called.err
