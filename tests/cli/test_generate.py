from __future__ import annotations

import io
import json
import os
import sys

import pytest


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.yaml").write_text("")
    return tmp_path


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    """No prompts wait on stdin."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("not read"))


def asked(fake):
    [(name, facts)] = fake.calls
    assert name == "generate"
    return facts


def test_from_nothing(xlm, fake, run):
    called = xlm("generate", run, "-n", "2", "--seed", "5", "predictor.length=3")
    facts = asked(fake)
    assert (facts["prompts"], facts["n"], facts["seed"], facts["trace"]) == (None, 2, 5, False)
    assert facts["overrides"] == ["predictor.length=3"]
    assert called.out == "<>\n<>\n"
    assert called.err == ""


def test_prompts_from_options_and_a_file(xlm, fake, run, tmp_path):
    (tmp_path / "prompts.txt").write_text("c\nd e\n")
    called = xlm("generate", run, "--prompt", "a", "-p", "b", "--prompts", tmp_path / "prompts.txt")
    assert asked(fake)["prompts"] == ["a", "b", "c", "d e"]
    assert called.out.splitlines() == ["a -> <a>", "b -> <b>", "c -> <c>", "d e -> <d e>"]


@pytest.mark.parametrize("arguments", [[], ["--prompts", "-"]])
def test_prompts_from_a_pipe(xlm, fake, run, monkeypatch, arguments):
    read, write = os.pipe()
    os.write(write, b"a\nb\n")
    os.close(write)
    with os.fdopen(read) as pipe:
        monkeypatch.setattr(sys, "stdin", pipe)
        called = xlm("generate", run, *arguments)
    assert asked(fake)["prompts"] == ["a", "b"]
    assert called.err == "reading prompts from stdin, one a line\n"


def test_an_empty_pipe_is_no_prompt(xlm, fake, run, monkeypatch):
    read, write = os.pipe()
    os.close(write)
    with os.fdopen(read) as pipe:
        monkeypatch.setattr(sys, "stdin", pipe)
        xlm("generate", run)
    assert asked(fake)["prompts"] is None


def test_dev_null_is_no_prompt(xlm, fake, run, monkeypatch):
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        called = xlm("generate", run)
    assert (asked(fake)["prompts"], called.err) == (None, "")


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "cannot read the prompts in {file}: No such file or directory"), ("", "{file} holds no prompt")],
)
def test_a_file_without_prompts(xlm, fake, run, tmp_path, text, message):
    file = tmp_path / "prompts.txt"
    if text is not None:
        file.write_text(text)
    called = xlm("generate", run, "--prompts", file)
    assert called.code == 2
    assert f"error: {message.format(file=file)}" in called.err
    assert fake.calls == []


def test_json_lines(xlm, fake, run):
    rows = [json.loads(line) for line in xlm("generate", run, "-p", "a", "-p", "b", "--json").out.splitlines()]
    assert rows == [{"prompt": text, "text": f"<{text}>", "ids": [4, 5], "nfe": 2} for text in "ab"]


def test_the_event_log_goes_into_the_record(xlm, fake, run):
    row = json.loads(xlm("generate", run, "--json", "--trace").out)
    assert row["trace"]["start"] == [3]
    event = {"step": 0, "position": 1, "operation": "insert", "token": 5, "confidence": 0.5, "time": None}
    assert row["trace"]["events"][0] == event


def test_output_to_a_file(xlm, fake, run, tmp_path):
    out = tmp_path / "deep" / "samples.jsonl"
    called = xlm("generate", run, "-n", "3", "--output", out)
    assert len(out.read_text().splitlines()) == 3
    assert (called.out, called.err) == ("", f"wrote 3 samples to {out}\n")
    assert list(out.parent.iterdir()) == [out]


def test_an_interrupted_output_leaves_the_old_file(xlm, fake, run, tmp_path):
    out = tmp_path / "new" / "samples.jsonl"
    out.parent.mkdir()
    out.write_text("old")
    fake.failure = KeyboardInterrupt()
    assert xlm("generate", run, "--output", out).code == 130
    assert out.read_text() == "old"
    assert list(out.parent.iterdir()) == [out]


def test_showing_and_recording_exclude_each_other(xlm, fake, run):
    called = xlm("generate", run, "--watch", "--json")
    assert called.code == 2
    assert "--trace puts the event log" in called.err


def test_watching_asks_for_traces_and_replays_them(xlm, fake, run, monkeypatch):
    class Tokenizer:
        def decode(self, ids):
            return "abcdefg"[ids[0]]

    monkeypatch.setattr("xlm_core.inspection.tokenizer", lambda folder: Tokenizer())
    called = xlm("generate", run, "--watch")
    assert asked(fake)["trace"] is True
    assert called.out.splitlines() == ["start: d", "step 0 insert: d [f]", "step 1 insert: [e] d f"]
