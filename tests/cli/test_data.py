from __future__ import annotations

import json

import pytest
import yaml


def test_listing(xlm, mine):
    (mine / "data" / "broken.yaml").write_text("a: [")
    rows = {row["name"]: row for row in json.loads(xlm("data", "list", "--json", "--config-dir", mine).out)}
    assert rows["words"]["layout"] == "lm"
    assert rows["star_easy"]["layout"] == "seq2seq"
    assert rows["lm1b"]["download"] is True
    assert rows["broken"]["title"].startswith("broken: ")
    assert rows["star_easy"]["rows"] == "train 50,000, validation 100, test 5,000"
    assert rows["lm1b"]["rows"] == "train, validation 10,000, test 6,075"


def test_a_set_that_inherits_is_composed_for_the_list(xlm, mine):
    (mine / "data" / "more.yaml").write_text("defaults:\n  - words\n  - _self_\ntitle: More words\n")
    rows = {row["name"]: row for row in json.loads(xlm("data", "list", "--json", "--config-dir", mine).out)}
    assert (rows["more"]["layout"], rows["more"]["title"]) == ("lm", "More words")


def test_showing_a_config(xlm, mine):
    shown = yaml.safe_load(xlm("data", "show", "words", "data.length=5", "--no-example", "--config-dir", mine).out)
    assert (shown["data"]["length"], shown["tokenizer"]["kind"]) == (5, "numbers")


def test_a_download_is_not_started_unasked(xlm):
    called = xlm("data", "show", "lm1b")
    assert called.code == 0
    assert "--example" in called.err


def test_showing_an_example(xlm, tmp_path):
    (tmp_path / "text.txt").write_text("hello\nworld\n")
    shown = json.loads(xlm("data", "show", "text", f"data.path={tmp_path}/text.txt", "tokenizer=byte", "--json").out)
    assert shown["example"]["input"] == "hello"
    assert len(shown["example"]["input_ids"]) == 5
    assert [(token["token"], token["role"]) for token in shown["example"]["tokens"]] == [(letter, "text") for letter in "hello"]


def test_an_example_is_shown_as_a_family_reads_it(xlm, monkeypatch):
    arguments = ("data", "show", "star_easy", "--family", "arlm")
    called = xlm(*arguments)
    lines = called.out.splitlines()
    (header,) = (n for n, line in enumerate(lines) if line.split() == ["token", "id", "role"])
    rows = [line.split() for line in lines[header + 1 :]]
    assert [role for _, _, role in rows] == ["prompt"] * 26 + ["bos"] + ["target"] * 8
    assert all(int(number) == int(token) + 7 for token, number, role in rows if role != "bos")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = xlm(*arguments).out.splitlines()[-1]
    assert coloured.startswith(f"\x1b[36m{rows[0][0]}\x1b[0m \x1b[36m{rows[1][0]}\x1b[0m")
    assert coloured.count("\x1b[32m") == 8


@pytest.mark.parametrize("command", [["data", "prepare"], ["prepare-data"]])
def test_preparing(xlm, fake, mine, command):
    called = xlm(*command, "words", "data.length=5", "--config-dir", mine)
    [(name, facts)] = fake.calls
    assert (name, facts["data"].name, facts["data"].length) == ("prepare", "words", 5)
    assert called.out == "train: rows 10, folder somewhere\n"
    assert json.loads(xlm(*command, "words", "--config-dir", mine, "--json").out) == {
        "train": {"rows": 10, "folder": "somewhere"}
    }


def test_an_unknown_set(xlm, fake):
    called = xlm("data", "prepare", "star_esy")
    assert called.code == 2
    assert "Did you mean 'star_easy'?" in called.err
