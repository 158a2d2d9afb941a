"""Weights as they are, measured without training, on data that have nothing to train on."""

from __future__ import annotations

import json

SMALL = (
    "model=arlm_tiny",
    "model.dim=32",
    "model.layers=2",
    "model.heads=2",
    "trainer.micro_batch_size=4",
    "trainer.batch_size=4",
    "~data.splits.train",
    "~data.splits.validation",
    "data.splits.test.rows=5",
)


def test_without_steps_the_test_split_is_measured(xlm, tmp_path):
    arguments = ("train", "--family", "arlm", "--data", "star_easy", "--no-recipe", *SMALL)
    assert "star_easy has no split train" in xlm(*arguments, code=2).stderr
    found = json.loads(xlm(*arguments, "trainer.max_steps=0", "--json").stdout)
    assert found["metrics"]["test/exact_match"]["n"] == 5
    (results,) = tmp_path.glob("runs/*/*/*/results/test_step0000000.json")
    (predictions,) = tmp_path.glob("runs/*/*/*/predictions/test_*.jsonl")
    kept = json.loads(results.read_text())
    assert (kept["metrics"], kept["policy"]) == (found["metrics"], found["policy"])
    assert len(predictions.read_text().splitlines()) == 5
