from __future__ import annotations

import json

import pytest


def test_evaluating(xlm, fake, tmp_path):
    (tmp_path / "config.yaml").write_text("")
    called = xlm("eval", tmp_path, "--split", "validation", "--checkpoint", "last", "trainer.precision=fp32")
    assert fake.calls == [
        (
            "evaluate",
            {"folder": tmp_path, "split": "validation", "checkpoint": "last", "overrides": ["trainer.precision=fp32"]},
        )
    ]
    assert called.out == "metric     value\ntest/loss  1.5 ± 0.25\n"


def test_json_has_no_nan(xlm, fake, tmp_path):
    (tmp_path / "config.yaml").write_text("")
    fake.metrics = {"loss": type(fake.metrics["test/loss"])(float("nan"), None, 0)}
    printed = xlm("eval", tmp_path, "--json").out
    assert json.loads(printed, parse_constant=lambda name: name)["metrics"]["loss"] == {"value": None, "stderr": None, "n": 0}


def test_what_is_no_run(xlm, fake):
    called = xlm("eval", "nowhere")
    assert (called.code, called.err) == (2, "error: nowhere is not a run\nhint: Train one first.\n")


def test_a_split_that_cannot_be_measured(xlm, fake):
    assert xlm("eval", "x", "--split", "train").code == 2


def test_measuring_a_file_of_predictions(xlm, fake, tmp_path):
    file = tmp_path / "mine.jsonl"
    arguments = ("--data", "star_easy", "+data.evaluators.generative_perplexity={judge: gpt2}")
    called = xlm("eval", "--predictions", file, *arguments)
    expected = {"data": "star_easy", "evaluators": {"generative_perplexity": {"judge": "gpt2"}}, "predictions": file}
    assert fake.calls == [("assess", expected)]
    assert called.out == "metric     value\ntest/loss  1.5 ± 0.25\n"


@pytest.mark.parametrize("arguments", [(), ("--predictions", "x.jsonl"), ("latest", "--data", "star_easy")])
def test_neither_a_run_nor_a_file(xlm, fake, arguments):
    called = xlm("eval", *arguments)
    assert called.code == 2
    assert called.err.startswith("error: xlm eval takes a run, or --predictions with --data\nhint: ")
