"""The grammar's evaluator: against enumeration, and its standard errors against leaving out each row."""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import product

import pytest

from xlm_core import composition, run
from xlm_core.evaluation import evaluators
from xlm_core.evaluation.evaluators.cfg import variety
from xlm_core.tasks.cfg import DEPTH, G1, Grammar

TEXTS = [
    "John sneezed",
    "John sneezed",
    "the man laughed",
    "Mary chased my big elephant with your telescope",
    "John John",
    "",
]


def measured(texts):
    chosen = evaluators.build({"cfg": {}})
    rows = evaluators.scored(chosen, [{"row": i, "text": text} for i, text in enumerate(texts)])
    return rows, evaluators.summarised(chosen, rows)


def test_by_hand():
    rows, found = measured(TEXTS)
    assert [row["cfg_depth"] for row in rows] == [4, 4, 4, 6, None, None]
    assert [row["cfg_derivations"] for row in rows] == [1, 1, 1, 2, 0, 0]  # with the telescope: the elephant, or the chase
    assert rows[0]["cfg_rules"] == ["NP -> NProp", "S -> NP VP", "VP -> Vintr"]
    assert rows[2]["cfg_rules"] == ["NP -> Det N", "S -> NP VP", "VP -> Vintr"]
    assert found["cfg_grammatical"].value == pytest.approx(4 / 6)
    assert found["cfg_in_language"].value == pytest.approx(3 / 6)
    assert found["cfg_distinct"].value == pytest.approx(5 / 6)
    assert (found["cfg_templates"].value, found["cfg_templates"].n) == (3 / 4, 4)
    assert (found["cfg_derivations"].value, found["cfg_derivations"].n) == (5 / 4, 4)
    assert found["cfg_ambiguous"].value == 1 / 4
    # NProp, Det N, Det A N; NP VP; Vintr, Vtr NP; P NP and one of the two phrases that it is in.
    assert found["cfg_rule_coverage"].value == 8 / 11


def test_the_data_use_eight_rules_of_eleven():
    assert len(G1.phrasal) == 11
    _, found = measured(G1.sentences(DEPTH)[::2003])
    assert found["cfg_rule_coverage"].value == 8 / 11
    assert found["cfg_in_language"].value == found["cfg_grammatical"].value == found["cfg_distinct"].value == 1


def test_nothing_grammatical_is_zero_and_not_nothing():
    _, found = measured(["John", "x"])
    assert found["cfg_grammatical"].value == found["cfg_rule_coverage"].value == 0
    assert "cfg_templates" not in found


def test_the_number_of_derivations_is_that_of_enumeration():
    """Left-recursive and ambiguous; a sentence of n words is no deeper than n + 2."""
    grammar = Grammar({"S": ["S b", "b S", "a S", "C", "a"], "C": ["a b", "b"]})
    derived = Counter(grammar.sentences(7))
    several = 0
    for size in range(1, 6):
        for words in product("ab", repeat=size):
            found = grammar.derivation(list(words))
            assert (0 if found is None else found.count) == derived[" ".join(words)]
            several += found is not None and found.count > 1
    assert several > 10


def test_derivations_derive_their_sentence():
    """Putting the rules in, the topmost first and always for the leftmost phrase, gives the words again."""
    for text in [
        "Alice said that the big man bought my elephant",
        "my man `s your telescope sneezed",
        "Mary chased my big elephant with your telescope under Alice",
    ]:
        derivation = G1.derivation(text.split())
        assert derivation is not None
        form = [G1.start]
        for rule in derivation.rules:
            symbol, _, parts = rule.partition(" -> ")
            place = next(i for i, part in enumerate(form) if part in G1.rules)
            assert form[place] == symbol
            form[place : place + 1] = parts.split()
        assert form == text.split()


@pytest.mark.parametrize("of", [None, 5])
def test_standard_errors_are_those_of_leaving_out_each_row(of):
    rows = [{1, 2}, {2}, {3}, {3}, {3, 4}, set()]

    def value(kept):
        return len(set().union(*kept)) / (of or len(kept))

    without = [value(rows[:i] + rows[i + 1 :]) for i in range(6)]
    centre = sum(without) / 6
    found = variety(rows, of)
    assert (found.value, found.n) == (pytest.approx(value(rows)), 6)
    assert found.stderr == pytest.approx(math.sqrt(5 / 6 * sum((x - centre) ** 2 for x in without)))
    assert variety(rows[:1]).stderr is None


def test_a_file_of_predictions_is_scored_later(tmp_path):
    file = tmp_path / "predictions.jsonl"
    file.write_text("".join(json.dumps({"row": i, "text": text}) + "\n" for i, text in enumerate(TEXTS)))
    found = run.assess(composition.check(composition.compose(["data=cfg"])), file).metrics
    assert {name: estimate.value for name, estimate in found.items()} == {
        name: estimate.value for name, estimate in measured(TEXTS)[1].items()
    }
