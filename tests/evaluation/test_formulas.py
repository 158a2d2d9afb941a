"""Formulas are compared in a process that can open no file: it must say what math-verify says here, in this one."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from xlm_core.errors import ConfigError
from xlm_core.evaluation import evaluators

# What was written, the target, and whether they are the same by mathematics.
PAIRS = [
    (r"Hence it is \boxed{\frac{2}{4}}.", r"\frac{1}{2}", True),
    (r"so $x = 5$", "5", True),
    (r"The answer is $(-\infty, 3]$", r"(-\infty,3]", True),
    (r"We get \boxed{x^2 + 2x + 1}", r"(x+1)^2", True),
    (r"\boxed{3, 1, 2}", "1,2,3", True),
    (r"\boxed{\text{Evelyn}}", r"\text{Evelyn}", True),
    (r"\boxed{6 - 5i}", "6 - 5i", True),
    (r"\boxed{\begin{pmatrix} 1 \\ 2 \end{pmatrix}}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", True),
    (r"\boxed{\sqrt{12}}", r"2\sqrt{3}", True),
    (r"\boxed{\int_0^1 x dx}", r"\frac{1}{3}", False),
    (r"\boxed{\sum_{k=1}^{10} k}", "54", False),
    (r"\boxed{x < 3}", "3 > x", True),
    (r"\boxed{4}", "5", False),
    (r"\boxed{(3, \frac{\pi}{2})}", r"(\frac{\pi}{2}, 3)", False),
    (r"\boxed{x + 1}", "x - 1", False),
    ("I do not know", "7", False),
    ("", "7", False),
    (r"It is $3$. Problem: what is $2$? Answer: $4$", "3", True),
    (r"\boxed{\frac{", r"\frac{1}{2}", False),
]


@pytest.fixture(scope="module")
def scored():
    pytest.importorskip("math_verify")
    golds = [gold for _, gold, _ in PAIRS]
    order = np.random.default_rng(0).permutation(len(PAIRS))
    pairs = [
        *((text, gold) for text, gold, _ in PAIRS),
        *((rf"\boxed{{{gold}}}", gold) for gold in golds),
        *((rf"\boxed{{{golds[i]}}}", gold) for i, gold in zip(order, golds, strict=True)),
    ]
    chosen = evaluators.build({"formulas": {}})
    rows = [{"row": i, "text": text, "target": gold} for i, (text, gold) in enumerate(pairs)]
    return chosen, evaluators.scored(chosen, rows), len(PAIRS)


def test_what_means_the_same_is_right_and_nothing_else(scored):
    _, rows, n = scored
    assert [bool(row["math_correct"]) for row in rows[:n]] == [expected for *_, expected in PAIRS]
    assert [row["text"] for row in rows[:n] if row["math_answer"] is None] == ["I do not know", "", r"\boxed{\frac{"]


def test_the_process_says_what_math_verify_says_here(scored):
    from math_verify import parse, verify

    _, rows, n = scored
    for row in rows[:n]:
        gold = parse(f"${row['target']}$", parsing_timeout=None)
        found = parse(row["text"].partition("Problem:")[0], parsing_timeout=None)
        assert bool(row["math_correct"]) == verify(gold, found, timeout_seconds=None)
        assert row["math_killed"] == 0
        assert (row["math_answer"] is None) == (not found)
        assert (row["math_gold"] is None) == (not gold)


def test_the_right_answers_score_one_and_shuffled_ones_what_counting_says(scored):
    chosen, rows, n = scored
    right = evaluators.summarised(chosen, rows[n : 2 * n])
    assert (right["math_accuracy"].value, right["math_accuracy"].n) == (1, n)
    assert right["math_gold"].value == right["math_parses"].value == 1
    assert right["math_killed"].value == 0
    shuffled = evaluators.summarised(chosen, rows[2 * n :])
    hits = sum(row["text"] == rf"\boxed{{{row['target']}}}" for row in rows[2 * n :])
    assert shuffled["math_accuracy"].value == hits / n


def test_two_ranks_find_what_one_finds(scored, on_two):
    chosen, rows, n = scored
    given = [{key: row[key] for key in ("row", "text", "target")} for row in rows[:n]]

    def work(rank):
        found = evaluators.scored(chosen, given)
        return found, evaluators.summarised(chosen, found)

    assert on_two(work) == [(rows[:n], evaluators.summarised(chosen, rows[:n]))] * 2


def test_a_formula_without_end_is_told_and_not_right():
    pytest.importorskip("math_verify")
    chosen = evaluators.build({"formulas": {"seconds": 1.0}})
    found = evaluators.scored(chosen, [{"text": r"$9^{9^{9^9}}$", "target": "2"}])
    assert (found[0]["math_correct"], found[0]["math_killed"]) == (0.0, 1.0)
    metrics = evaluators.summarised(chosen, found)
    assert (metrics["math_accuracy"].value, metrics["math_killed"].value) == (0.0, 1.0)


def test_predictions_without_targets_are_a_slip():
    pytest.importorskip("math_verify")
    with pytest.raises(ConfigError, match="no targets"):
        evaluators.build({"formulas": {}})["formulas"].score([{"text": "x"}])


def test_what_is_not_installed_is_said_with_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(ConfigError, match="needs math_verify, which is not installed") as caught:
        evaluators.build({"formulas": {}})
    assert caught.value.hint == 'pip install "xlm-core[math]"'
