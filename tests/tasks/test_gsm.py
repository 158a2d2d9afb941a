"""TinyGSM and GSM8K."""

from __future__ import annotations

import datasets
import pytest

from xlm_core.errors import DataError
from xlm_core.tasks.gsm.problems import number


def ids(text):
    return list(text.encode())


def test_questions_and_programs_with_the_published_hold_out(copy, prepared, byte_level):
    rows = [{"question": f" How many is {n}? \n", "code": f"\ndef simple_math_problem():\n    return {n}\n"} for n in range(50)]
    folder = copy(train_parquet=rows)
    published = datasets.Dataset.from_list(rows).train_test_split(test_size=0.05, seed=2025)
    told = f"tokenizer.name={byte_level}"
    splits = {name: prepared("tinygsm", folder, name, told)[0] for name in ("train", "validation", "test")}
    expected = {
        name: [(ids(row["question"].strip() + "\n"), ids(row["code"].strip())) for row in published[name]]
        for name in ("train", "test")
    }
    found = {name: [(row["prompt_ids"], row["input_ids"]) for row in made] for name, made in splits.items()}
    assert found["train"] == expected["train"]
    assert found["test"] + found["validation"] == expected["test"]
    assert len(found["test"]) == 2


def test_a_long_question_keeps_its_end_and_a_long_program_its_beginning(copy, prepared, byte_level):
    folder = copy(train_jsonl=[{"question": "a" * 200 + "b" * 100, "code": "c" * 200 + "d" * 100}] * 40)
    (row, *_), _ = prepared("tinygsm", folder, "train", f"tokenizer.name={byte_level}")
    assert row["prompt_ids"] == ids("a" * 155 + "b" * 100 + "\n")
    assert row["input_ids"] == ids("c" * 200 + "d" * 56)


ANSWERS = {
    "She has <<2+3=5>>5 eggs.\n#### 18": "18",
    "It costs $1,500.\n#### 1,234,567": "1234567",
    "#### -3": "-3",
    "#### 2.50 dollars": "2.50",
    "#### $70": "70",
    "#### 3 of 4": "3",
    "no mark, but 12 and then 7": "7",
    "no mark, 10-5": "5",
    "#### .5": ".5",
}


@pytest.mark.parametrize(("answer", "gold"), ANSWERS.items())
def test_the_number_of_an_answer(answer, gold):
    assert number(answer) == gold


def test_an_answer_without_a_number_is_refused():
    with pytest.raises(DataError, match="no number"):
        number("#### none")


def test_gsm8k_asks_as_tinygsm_and_its_target_is_the_number(copy, prepared, byte_level):
    folder = copy(test_parquet=[{"question": "How many?", "answer": "One and one.\n#### 2"}])
    rows, tokenizer = prepared("gsm8k", folder, "test", f"tokenizer.name={byte_level}")
    assert rows == [{"prompt_ids": ids("How many?\n"), "input_ids": ids("2")}]
    assert tokenizer.decode(rows[0]["input_ids"]) == "2"
