"""Evaluators: their framework against a toy, and the generative perplexity against the judge's own loss."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from xlm_core.config import TokenizerConfig
from xlm_core.data import tokenizers
from xlm_core.errors import ConfigError, DataError
from xlm_core.evaluation import evaluators
from xlm_core.evaluation.evaluators.generative_perplexity import GenerativePerplexity
from xlm_core.evaluation.statistics import mean

TEXTS = [
    "a text of some length",
    "short",
    "",
    "x",
    "aaaa aaaa aaaa",
    "another text, which is quite a bit longer than the others",
]


class Letters:
    """How many letters a row has, and after it whether that is more than `least`."""

    def __init__(self, least: int = 0) -> None:
        self.least = least

    def score(self, rows):
        return [{f"over_{self.least}": float(len(row["text"]) > self.least)} for row in rows]

    def summarise(self, rows):
        return {f"share_over_{self.least}": mean([row[f"over_{self.least}"] for row in rows])}


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """A folder with a small GPT-2 with random weights and a byte tokenizer."""
    folder = tmp_path_factory.mktemp("judge")
    tokenizer = tokenizers.build(TokenizerConfig(kind="byte"), text_path=None)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=48, n_embd=16, n_layer=2, n_head=2)
    model = GPT2LMHeadModel(config)
    for parameter in model.parameters():
        parameter.data.mul_(4)  # far from uniform
    model.save_pretrained(folder)
    return folder


def rows_of(texts):
    return [{"row": i, "text": text} for i, text in enumerate(texts)]


def nll_of(folder, text):
    """The judge's own loss on one text, times its tokens."""
    tokenizer, model = tokenizers.load(folder), GPT2LMHeadModel.from_pretrained(folder).eval()
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"][:48]])
    with torch.no_grad():
        return model(ids, labels=ids).loss.item() * (ids.shape[1] - 1), ids.shape[1] - 1


def test_the_perplexity_is_the_judges_own(judge):
    chosen = evaluators.build({"generative_perplexity": {"judge": str(judge), "device": "cpu"}})
    rows = evaluators.scored(chosen, rows_of(TEXTS))
    found = evaluators.summarised(chosen, rows)
    expected = {text: nll_of(judge, text) for text in TEXTS if len(text) > 1}
    for row in rows:
        nll, tokens = expected.get(row["text"], (None, 0))
        assert row["judge_nll"] == (None if nll is None else pytest.approx(nll, rel=1e-4))
        assert row["judge_tokens"] == tokens
    nlls, counts = zip(*expected.values(), strict=True)
    assert found["generative_perplexity"].value == pytest.approx(math.exp(sum(nlls) / sum(counts)), rel=1e-4)
    each = [math.exp(nll / count) for nll, count in expected.values()]
    assert found["generative_perplexity_mean"].value == pytest.approx(sum(each) / len(each), rel=1e-4)
    assert found["generative_perplexity"].n == 4
    assert (found["judged"].value, found["judged"].n) == (pytest.approx(4 / 6), 6)


@pytest.mark.parametrize("batch_tokens", [1, 60, 10000])
def test_batches_do_not_matter(judge, batch_tokens):
    one = GenerativePerplexity(str(judge), device="cpu", batch_tokens=batch_tokens).score(rows_of(TEXTS))
    each = [GenerativePerplexity(str(judge), device="cpu").score([row])[0] for row in rows_of(TEXTS)]
    assert [row["judge_nll"] for row in one] == [row["judge_nll"] and pytest.approx(row["judge_nll"], rel=1e-5) for row in each]


def test_variety_by_hand(judge):
    (row,) = GenerativePerplexity(str(judge), device="cpu").score(rows_of(["abab"]))
    assert row["entropy"] == pytest.approx(math.log(2))
    assert [row[f"distinct_{n}"] for n in (1, 2, 3)] == [2 / 4, 2 / 3, 2 / 2]


def test_a_judge_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be loaded"):
        GenerativePerplexity(str(tmp_path / "nowhere"), device="cpu").score(rows_of(["ab"]))


def test_evaluators_come_by_dotted_path_and_see_what_those_before_found(monkeypatch):
    path = f"{__name__}.Letters"
    monkeypatch.setitem(__import__("sys").modules, __name__, __import__("types").SimpleNamespace(Letters=Letters))
    chosen = evaluators.build({path: {"least": 5}})
    rows = evaluators.scored({**chosen, "again": Letters(0)}, rows_of(TEXTS))
    assert [row["over_5"] for row in rows] == [1.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    found = evaluators.summarised({**chosen, "again": Letters(0)}, rows)
    assert found["share_over_5"].value == 0.5
    assert found["share_over_0"].value == pytest.approx(5 / 6)
    with pytest.raises(ConfigError, match="'again' gives 'share_over_5'"):
        evaluators.summarised({**chosen, "again": Letters(5)}, rows)


@pytest.mark.parametrize(
    ("configs", "words"),
    [({"no_such": {}}, "cannot be imported"), ({"generative_perplexity": {"jugde": "x"}}, "does not take these arguments")],
)
def test_slips_in_the_config(configs, words):
    with pytest.raises(ConfigError, match=words):
        evaluators.build(configs)


@pytest.mark.parametrize("line", ["{", "[]", '{"row": 0}', '{"text": 3}'])
def test_a_file_that_is_none_of_ours(tmp_path, line):
    file = tmp_path / "predictions.jsonl"
    file.write_text(json.dumps({"text": "fine"}) + "\n" + line + "\n")
    with pytest.raises(DataError, match="line 2"):
        evaluators.read(file)
    with pytest.raises(DataError, match="there is no predictions file"):
        evaluators.read(tmp_path / "other.jsonl")


def test_what_is_not_installed_is_said_with_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "mauve", None)
    with pytest.raises(ConfigError, match="needs mauve, which is not installed") as caught:
        evaluators.build({"mauve": {}})
    assert caught.value.hint == 'pip install "xlm-core[mauve]"'


def test_mauve_knows_texts_of_one_law_from_those_of_another(judge):
    pytest.importorskip("mauve")
    random = np.random.default_rng(0)

    def texts(alphabet, n):
        return ["".join(random.choice(list(alphabet), 12)) for _ in range(n)]

    human = texts("abcd", 60)
    found = {}
    for name, made in {"same": human, "alike": texts("abcd", 60), "other": texts("wxyz", 60)}.items():
        rows = [{"row": i, "text": t, "target": h} for i, (t, h) in enumerate(zip(made, human, strict=True))]
        chosen = evaluators.build({"mauve": {"judge": str(judge), "device": "cpu", "resamples": 3}})
        found[name] = evaluators.summarised(chosen, evaluators.scored(chosen, rows))["mauve"]
    assert found["same"].value > 0.99
    assert found["same"].value >= found["alike"].value > found["other"].value
    assert found["other"].n == 60
    assert found["other"].stderr is not None


def test_mauve_needs_human_texts(judge):
    pytest.importorskip("mauve")
    with pytest.raises(ConfigError, match="the predictions have no targets"):
        evaluators.build({"mauve": {"judge": str(judge), "device": "cpu"}})["mauve"].summarise(rows_of(TEXTS))


def test_two_ranks_score_every_row_once_and_one_of_them_writes(tmp_path, on_two):
    out = tmp_path / "scored.jsonl"

    def work(rank):
        mine = Letters(5)
        score, summarise = mine.score, mine.summarise
        mine.score = lambda rows: [{**found, "rank": rank} for found in score(rows)]
        rows = evaluators.scored({"mine": mine}, rows_of([*TEXTS, "last"]))
        evaluators.write(out, rows)
        mine.summarise = lambda rows: summarise(rows) if rank == 0 else pytest.fail("only the first rank sums up")
        mine.files = lambda rows: {".ranks": str(rank)}
        evaluators.export(out, rows, {"mine": mine})
        return evaluators.summarised({"mine": mine}, rows)["share_over_5"].n

    assert on_two(work) == [7, 7]
    rows = evaluators.read(out)
    assert [row["text"] for row in rows] == [*TEXTS, "last"]
    assert [row["rank"] for row in rows] == [0, 1, 0, 1, 0, 1, 0]
    assert out.with_suffix(".ranks").read_text() == "0"
    assert [row["over_5"] for row in rows] == [float(len(text) > 5) for text in [*TEXTS, "last"]]
