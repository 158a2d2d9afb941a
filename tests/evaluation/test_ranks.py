"""Two ranks find what one finds, and none waits for one that failed."""

from __future__ import annotations

import traceback
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from xlm_core.config import TokenizerConfig
from xlm_core.data import tokenizers
from xlm_core.errors import DataError
from xlm_core.evaluation import evaluators, ranks
from xlm_core.evaluation.statistics import Estimate

PROGRAM = "def simple_math_problem():\n    return "
ANSWERS = ["3", "1 / 0", "4 - 1", "'a'", "2", "len('abc')", "("]
CHAINS = ["AAC", "AAC", "GAVLI", "", "MKX", "AAAA", "WWYC"]
SENTENCES = ["John sneezed", "John John", "", "John sneezed", "the man laughed", "Mary laughed", "my elephant chased Mary"]
LINKER = "C2CO.c31ccccc1."
LINKS = ["C23", "C23", "N23", "C2.C3", "C23.C1CC(", "", "S23"]


def rows_of(texts, **more):
    return [{"row": i, "text": text, **more} for i, text in enumerate(texts)]


def judge(folder):
    """A small GPT-2 with random weights and a byte tokenizer."""
    tokenizer = tokenizers.build(TokenizerConfig(kind="byte"), text_path=None)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=48, n_embd=16, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return {"judge": str(folder), "device": "cpu", "batch_tokens": 1}


def cases(folder):
    """Of each evaluator its arguments, and seven rows.

    Not of those that a test of their own has on two ranks, formulas, or that find nothing of single rows, MAUVE.
    """
    found = {
        "cfg": ({}, rows_of(SENTENCES)),
        "programs": ({}, rows_of([PROGRAM + answer for answer in ANSWERS], target="3")),
        "proteins": ({"resamples": 20}, rows_of(CHAINS)),
        "generative_perplexity": (judge(folder), rows_of(SENTENCES)),
    }
    if find_spec("rdkit"):
        found["molecules"] = ({"resamples": 20}, rows_of([LINKER + link for link in LINKS]))
        found["molecules_fragments"] = ({"task": "t"}, rows_of(LINKS, prompt=LINKER, target="OCCCc1ccccc1"))
    return found


def measured(name, arguments, rows, out):
    """Scored rows, metrics, and what was written."""
    chosen = evaluators.build({name: arguments})
    scored = evaluators.scored(chosen, rows)
    evaluators.write(out, scored)
    evaluators.export(out, scored, chosen)
    written = {file.suffix: file.read_text() for file in out.parent.glob(f"{out.stem}.*")}
    return scored, evaluators.summarised(chosen, scored), written


def test_every_evaluator_finds_on_two_ranks_what_it_finds_on_one(tmp_path, on_two):
    given = cases(tmp_path / "judge")
    for folder in "one", "two":
        (tmp_path / folder).mkdir()

    def all_of(folder):
        return {name: measured(name, *case, tmp_path / folder / f"{name}.jsonl") for name, case in given.items()}

    one = all_of("one")
    two = on_two(lambda rank: all_of("two"))
    for name, found in one.items():
        assert len(found[0]) == 7, name
        assert found[1], name
        assert two[0][name] == two[1][name] == found, name
    assert ".fasta" in one["proteins"][2]


def test_those_are_all_evaluators(tmp_path):
    others = {"formulas", "molecules", "molecules_fragments", "mauve"}
    files = Path(evaluators.__file__).parent.glob("*.py")
    assert cases(tmp_path).keys() | others == {file.stem for file in files if "\nevaluator = " in file.read_text()}


class Sick:
    """Fails in the ways that it is told to."""

    def __init__(self, score=None, summarise=None, found=1.0):
        self.wrong, self.found = {"score": score, "summarise": summarise}, found

    def score(self, rows):
        return [self.one(row) for row in rows]

    def one(self, row):
        if self.wrong["score"] and row["row"] == 1:  # which the second rank has
            raise self.wrong["score"]
        return {"found": self.found}

    def summarise(self, rows):
        if self.wrong["summarise"]:
            raise self.wrong["summarise"]
        return {"found": Estimate(1.0, None, len(rows))}


def outcome(work):
    """Of what was raised: its kind, what it says, and where it was raised; or what came out."""
    try:
        return work()
    except Exception as error:
        hint = getattr(error, "hint", None)
        return type(error).__name__, str(error), hint, traceback.extract_tb(error.__traceback__)[-1].name


ELSEWHERE = "Its own output has the traceback."


def test_what_goes_wrong_on_one_rank_ends_both(tmp_path, on_two):
    def work(sick, rows=None):
        chosen = {"sick": sick}
        scored = evaluators.scored(chosen, rows_of("abc"))
        evaluators.write(tmp_path / "scored.jsonl", scored)
        return evaluators.summarised(chosen, scored)["found"].n

    def all_of(rank):
        return [
            outcome(lambda: work(Sick(summarise=ZeroDivisionError("nothing\nat all")))),
            outcome(lambda: work(Sick(score=ValueError("no text")))),
            outcome(lambda: work(Sick(score=DataError("no prompt", "Give one.")))),
            outcome(lambda: work(Sick(found=np.float32(1)))),
            outcome(lambda: work(Sick(found=lambda: 1))),
            outcome(lambda: work(Sick())),
        ]

    first, second = on_two(all_of)
    assert first[0] == ("ZeroDivisionError", "nothing\nat all", None, "summarise")
    assert second[0][:3] == ("XlmError", "rank 0 stopped with ZeroDivisionError: nothing", ELSEWHERE)
    assert first[1][:3] == ("XlmError", "rank 1 stopped with ValueError: no text", ELSEWHERE)
    assert second[1] == ("ValueError", "no text", None, "one")
    assert first[2][:3] == second[2][:3] == ("DataError", "no prompt", "Give one.")
    assert first[3][0] == "TypeError"  # JSON cannot hold it
    assert second[3][1].startswith("rank 0 stopped with TypeError: ")
    assert {kind for kind, *_ in (first[4], second[4])} & {"PicklingError", "AttributeError", "TypeError"}
    assert first[5] == second[5] == 3
    assert [row["found"] for row in evaluators.read(tmp_path / "scored.jsonl")] == [1.0] * 3


def test_one_process_needs_no_group():
    assert ranks.place() == (0, 1)
    assert ranks.together(lambda: 3) == [3]
    with pytest.raises(KeyError):
        ranks.first(lambda: {}["x"])
