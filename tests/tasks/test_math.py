"""MATH-500: its prompts, and the four problems in them."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import product
from math import isclose, sqrt

import pytest

from xlm_core import composition
from xlm_core.errors import DataError
from xlm_core.tasks.math.problems import prompt
from xlm_core.tasks.math.shots import SHOTS


def test_four_worked_problems_and_then_the_question():
    blocks = prompt(" What is $1 + 1$?\n").split("\n\n")
    assert len(blocks) == 5
    assert blocks[-1] == "Problem: What is $1 + 1$?\nAnswer:"
    for block, shot in zip(blocks, SHOTS, strict=False):
        assert block == f"Problem: {shot.problem}\nAnswer: {shot.solution}"


def boxed(shot):
    return re.search(r"\\boxed\{(.+)\}", shot.solution)[1]


def test_the_worked_problems_are_right():
    (width,) = (w for w in range(1, 40) if w * (w + 3) == 40)
    divisors = sum(360 % n == 0 for n in range(1, 361))
    rolls = [max(roll) == 4 for roll in product(range(1, 7), repeat=2)]
    chance = Fraction(sum(rolls), len(rolls))
    found = [boxed(shot) for shot in SHOTS]
    assert found[:3] == [str(2 * (2 * width + 3)), str(divisors), rf"\frac{{{chance.numerator}}}{{{chance.denominator}}}"]
    assert found[3] == r"3\sqrt{3}"
    assert isclose(sqrt(48) - sqrt(12) + sqrt(3), 3 * sqrt(3))


def test_the_target_is_the_answer(copy, prepared, byte_level):
    rows = [{"problem": "What is half of $1$?", "solution": "Half.", "answer": r"\frac{1}{2}", "level": 1}]
    folder = copy(test_jsonl=rows)
    made, tokenizer = prepared("math500", folder, "test", f"tokenizer.name={byte_level}")
    assert made == [{"prompt_ids": list(prompt(rows[0]["problem"]).encode()), "input_ids": list(rb"\frac{1}{2}")}]
    assert tokenizer.decode(made[0]["prompt_ids"]).endswith("\n\nProblem: What is half of $1$?\nAnswer:")


def test_a_prompt_that_does_not_fit_is_refused_and_not_cut(copy, prepared, byte_level):
    folder = copy(test_jsonl=[{"problem": "x" * 2000, "answer": "1"}])
    with pytest.raises(DataError, match="prompt_length"):
        prepared("math500", folder, "test", f"tokenizer.name={byte_level}")


def test_there_is_nothing_to_choose_on():
    for name in ("math500", "gsm8k", "safe_fragment"):
        assert set(composition.check(composition.compose([f"data={name}"])).data.splits) == {"test"}
