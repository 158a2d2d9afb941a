import re
from collections import Counter
from decimal import Decimal
from functools import cache

import pytest

from xlm_core.config import TokenizerConfig
from xlm_core.data import tokenizers
from xlm_core.errors import ConfigError, DataError
from xlm_core.tasks.arithmetic import generate, preprocess

SIZES = {"train": 1500, "validation": 100, "test": 300}


@cache
def rows(split, **arguments):
    made = generate(split, **{**SIZES, **arguments})
    return list(zip(*(column.to_pylist() for column in made.values()), strict=True))


def value(term, names):
    return names[term] if term in names else Decimal(term)


def calculated(code):
    """What the program returns, line by line, with exact decimals: names, numbers, + - * //, and round to two places."""
    head, *lines, last = code.split("\n")
    assert re.fullmatch(r"def simple_math_problem\(\) -> (int|float):", head)
    assert last == "    return result"
    names = {}
    for line in lines:
        name, expression = re.fullmatch(r"    (\w+) = (.+)", line).groups()
        if rounded := re.fullmatch(r"round\((.+), 2\)", expression):
            expression = rounded[1]
        terms = expression.split()
        number = value(terms[0], names)
        if len(terms) == 5:  # a + b * c
            assert (terms[1], terms[3]) == ("+", "*")
            number += value(terms[2], names) * value(terms[4], names)
        elif len(terms) == 3:
            other = value(terms[2], names)
            number = {"+": number + other, "-": number - other, "*": number * other, "//": number // other}[terms[1]]
        if rounded:
            assert number == round(number, 2)
        names[name] = number
    return names["result"]


def told(question):
    """The answer from the words of the question alone."""
    amount, result = None, None
    for sentence in re.findall(r".+?[.?](?= |$)", question):
        numbers = [Decimal(number) for number in re.findall(r"\d+(?:\.\d+)?", sentence)]
        if amount is None:
            (amount,) = numbers
        elif "finds" in sentence:
            amount += numbers[0]
        elif "gives" in sentence:
            amount -= numbers[0]
        elif "buys" in sentence:
            amount += numbers[0] * numbers[1]
        elif "times as many" in sentence:
            result = amount * numbers[0]
        elif "equally" in sentence:
            assert amount % numbers[0] == 0
            result = amount / numbers[0]
        elif "sells" in sentence:
            result = amount * numbers[0]
        assert amount > 0
    return amount if result is None else result


def test_story_program_and_answer_agree():
    for question, code, answer in rows("train"):
        number = Decimal(re.fullmatch(r"#### (\d+(?:\.\d\d)?)", answer)[1])
        assert calculated(code) == told(question) == number


def test_answers_have_no_decimals_or_two():
    assert sum("." in answer for *_, answer in rows("train")) > 100
    assert not any(answer.endswith(".00") for *_, answer in rows("train"))
    assert all(("-> float" in code) == ("$" in question) for question, code, _ in rows("train"))


def test_how_many_operations_there_are():
    def operations(code):
        changes = code.count("\n") - 3
        return changes + (re.search(r"result = \w+\n", code) is None)

    assert set(Counter(operations(code) for _, code, _ in rows("train"))) == {1, 2, 3, 4}
    assert {operations(code) for _, code, _ in rows("test", operations=1)} == {1}


def test_no_question_is_asked_twice():
    # Stories of one operation are few enough to repeat.
    sizes = {"train": 1500, "validation": 250, "test": 250, "operations": 1}
    asked = [question for split in SIZES for question, *_ in rows(split, **sizes)]
    assert len(set(asked)) == len(asked) == 2000


def test_problems_depend_on_seed_split_and_number_alone():
    assert rows("test")[:20] == rows("test", test=1200)[:20]
    assert rows("test")[:20] != rows("validation")[:20]
    assert rows("test")[:20] != rows("test", seed=1)[:20]


def test_rows_fit_the_lengths_of_the_config():
    tokenizer = tokenizers.build(TokenizerConfig(kind="char"))
    questions, codes, _ = zip(*rows("train"), strict=True)
    made = preprocess({"question": questions, "code": codes}, tokenizer)
    assert max(map(len, made["prompt_ids"])) <= 320
    assert max(map(len, made["input_ids"])) <= 256
    assert all(tokenizer.unk_token_id not in ids for column in made.values() for ids in column)


def test_prompt_ends_its_line_and_both_are_stripped():
    tokenizer = tokenizers.build(TokenizerConfig(kind="byte"))
    made = preprocess({"question": [" How many? \n"], "code": ["\ndef f():\n    return 1\n\n"]}, tokenizer)
    assert tokenizer.decode(made["prompt_ids"][0]) == "How many?\n"
    assert tokenizer.decode(made["input_ids"][0]) == "def f():\n    return 1"


def test_slips_are_named():
    with pytest.raises(ConfigError, match="0 operations"):
        generate("train", operations=0)
    with pytest.raises(DataError, match="dev"):
        generate("dev")
