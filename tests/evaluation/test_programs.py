"""Programs are scored by running them: against hand-made rows, and against answers that were never computed by a program."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from xlm_core import composition, run
from xlm_core.errors import ConfigError
from xlm_core.evaluation import evaluators
from xlm_core.evaluation.evaluators.programs import Programs, same
from xlm_core.tasks.arithmetic import generate

HEAD = "def simple_math_problem() -> int:\n    "
HOSTILE = {
    "no_program": "the answer is 3",
    "syntax": HEAD + "return (3",
    "refused": HEAD + "import os\n    return 3",
    "raised": HEAD + "return 3 / 0",
    "spent": HEAD + "while True:\n        pass",
    "no_number": HEAD + "return None",
}


def rows_of(pairs):
    return [{"row": i, "text": text, "target": target} for i, (text, target) in enumerate(pairs)]


def measured(rows, **arguments):
    chosen = evaluators.build({"programs": arguments})
    scored = evaluators.scored(chosen, rows)
    return scored, evaluators.summarised(chosen, scored)


@pytest.fixture(scope="module")
def problems():
    """Programs, and the numbers that are their answers, which came with the questions."""
    made = generate("test", train=1, validation=1, test=120)
    return made["code"].to_pylist(), [float(answer.removeprefix("#### ")) for answer in made["answer"].to_pylist()]


def test_the_right_programs_score_one(problems):
    codes, answers = problems
    scored, found = measured(rows_of(zip(codes, codes, strict=True)))
    assert [row["code_value"] for row in scored] == pytest.approx(answers)
    assert (found["code_accuracy"].value, found["code_accuracy"].n) == (1, 120)
    assert found["code_accuracy"].interval is not None
    assert found["code_runs"].value == found["code_parses"].value == found["code_gold"].value == 1
    assert not any(found[f"code_failed_{name}"].value for name in HOSTILE)


def test_shuffled_programs_score_what_counting_says(problems):
    codes, answers = problems
    order = [*np.random.default_rng(0).permutation(80), *range(80, 120)]
    targets = [f"{answer:.2f}" if answer % 1 else str(int(answer)) for answer in answers]
    _, found = measured(rows_of((codes[i], target) for i, target in zip(order, targets, strict=True)))
    hits = sum(answers[i] == answer for i, answer in zip(order, answers, strict=True))
    assert 40 <= hits < 60
    assert found["code_accuracy"].value == pytest.approx(hits / 120)


def test_every_way_to_fail_is_counted_and_none_stops_the_others():
    rows = rows_of([*((text, "3") for text in HOSTILE.values()), (HEAD + "return 3", "3"), (HEAD + "return 4", "3")])
    scored, found = measured(rows, steps=2000)
    assert [row["code_failure"] for row in scored] == [*HOSTILE, None, None]
    assert [row["code_correct"] for row in scored] == [0.0] * 6 + [1.0, 0.0]
    assert found["code_accuracy"].value == 1 / 8
    assert found["code_parses"].value == 6 / 8
    assert found["code_runs"].value == 2 / 8
    assert {name: found[f"code_failed_{name}"].value * 8 for name in HOSTILE} == dict.fromkeys(HOSTILE, 1)


def test_a_program_that_ends_the_process_is_marked_and_the_next_one_runs():
    # The interpreter stops programs by their steps: with many, the clock of the process comes first.
    rows = rows_of([(HOSTILE["spent"], "3"), (HEAD + "return 3", "3")])
    scored, found = measured(rows, steps=10**12, seconds=0.3)
    assert [row["code_failure"] for row in scored] == ["killed", None]
    assert (found["code_failed_killed"].value, found["code_accuracy"].value) == (0.5, 0.5)


def test_rows_without_a_right_number_are_told_and_not_counted():
    cut = "def simple_math_problem():\n    x = 3\n    result = x +"
    rows = rows_of(
        [(HEAD + "return 3", cut), (HEAD + "return 3", ""), (HEAD + "return 3", " -12 "), (HEAD + "return .5", ".5")]
    )
    scored, found = measured(rows)
    assert [row["code_gold"] for row in scored] == [None, None, -12, 0.5]
    assert [row["code_correct"] for row in scored] == [None, None, 0.0, 1.0]
    assert (found["code_accuracy"].value, found["code_accuracy"].n) == (0.5, 2)
    assert (found["code_gold"].value, found["code_gold"].n) == (0.5, 4)


def test_rows_are_scored_alike_alone_and_in_any_part():
    rows = rows_of([(HEAD + f"return {{'a', 'b', 'c', '{n}'}}.pop() < 'b' and {n}", "2") for n in range(6)])
    whole = Programs().score(rows)
    assert Programs().score(rows[1::2]) == whole[1::2]
    again = Programs()
    assert [again.score([row])[0] for row in rows] == whole


@pytest.mark.parametrize(
    ("value", "gold", "expected"),
    [
        (3, 3, True),
        (3, 4, False),
        (10**1000, 10**1000 + 1, False),
        (10**1000, 0.5, False),
        (2.5, 2.5009, True),
        (2.5, 2.5011, False),
        (3, 3.0005, True),
        (None, 3, False),
    ],
)
def test_when_numbers_are_the_same(value, gold, expected):
    assert same(value, gold) is expected


def test_predictions_without_targets_are_a_slip():
    with pytest.raises(ConfigError, match="no targets"):
        Programs().score([{"text": "x"}])


@pytest.mark.parametrize("data", ["arithmetic", "gsm8k", "tinygsm"])
def test_a_file_of_predictions_is_scored_later(tmp_path, data):
    file = tmp_path / "predictions.jsonl"
    rows = rows_of([(HEAD + "return 3", "3"), (HEAD + "return 3", HEAD + "return 4"), ("", "3")])
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = composition.check(composition.compose([f"data={data}"]))
    found = run.assess(config, file).metrics
    assert (found["code_accuracy"].value, found["code_accuracy"].n) == (pytest.approx(1 / 3), 3)
    scored = evaluators.read(tmp_path / "predictions.scored.jsonl")
    assert Counter(row["code_correct"] for row in scored) == {1.0: 1, 0.0: 2}
