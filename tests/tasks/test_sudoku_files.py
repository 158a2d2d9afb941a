"""Puzzles that others have published: Kaggle's columns, and those of sudoku-extreme."""

from __future__ import annotations

import pytest

from xlm_core.errors import ConfigError, DataError
from xlm_core.tasks.sudoku import published, quizzes

ANSWER = "".join(str(1 + (3 * (row % 3) + row // 3 + column) % 9) for row in range(9) for column in range(9))


def puzzle(number, blank):
    """The answer with all but a few cells blank; the first is always."""
    return "".join(blank if (cell + number) % 5 or not cell else digit for cell, digit in enumerate(ANSWER))


def check(row, question, tokenizer):
    assert row["input_ids"] == [7 + int(digit) for digit in ANSWER]
    mask = tokenizer.mask_token_id
    assert row["prompt_ids"] == [mask if digit in "0." else 7 + int(digit) for digit in question]


def test_digits_in_a_csv_file_are_text(prepared, tmp_path):
    questions = [puzzle(n, "0") for n in range(5)]
    for name in ("train", "test"):
        lines = "".join(f"{question},{ANSWER}\n" for question in questions)
        (tmp_path / f"{name}.csv").write_text(f"quizzes,solutions\n{lines}")
    rows, tokenizer = prepared("sudoku", tmp_path, "test")
    assert len(rows) == 5
    for row in rows:
        question = "".join("0" if token == tokenizer.mask_token_id else str(token - 7) for token in row["prompt_ids"])
        assert question in questions
        check(row, question, tokenizer)


def test_sudoku_extreme_has_dots_and_two_disjoint_halves_of_its_test(copy, prepared):
    rows = [{"question": puzzle(n, "."), "answer": ANSWER, "rating": n, "source": "s", "trajectory": None} for n in range(5)]
    folder = copy(train_jsonl=rows[:1], test_jsonl=rows * 2)
    (row,), tokenizer = prepared("sudoku_extreme", folder, "train")
    check(row, rows[0]["question"], tokenizer)
    test, validation = (prepared("sudoku_extreme", folder, name)[0] for name in ("test", "validation"))
    assert (len(test), len(validation)) == (5, 5)
    found = sorted(tuple(row["prompt_ids"]) for row in test + validation)
    assert found == sorted(tuple(tokenizer.mask_token_id if d == "." else 7 + int(d) for d in r["question"]) for r in rows * 2)


@pytest.mark.parametrize("board", ["1" * 80, "1" * 80 + "x", 12])
def test_what_is_no_board_is_refused(board):
    with pytest.raises(DataError, match="is not a board"):
        quizzes.preprocess({"quizzes": [board], "solutions": [ANSWER]}, None)


EASY = {"source": "puzzles1_unbiased", "rating": 3, "num_steps": 4, "strategies_used": ["Naked Single", "Hidden Singles"]}
PUZZLES = {
    "easy": {},
    "from kaggle": {"source": "puzzles0_kaggle"},
    "rated": {"rating": 50},
    "rated highest": {"rating": 100},
    "long": {"num_steps": 8},
    "longest": {"num_steps": 12},
    "pairs": {"strategies_used": ["Naked Pairs"]},
    "a triple": {"strategies_used": ["hidden_triple", "Naked Single"]},
    "a wing": {"strategies_used": ["X-Wing"]},
    "chains": {"strategies_used": ["Forcing Chains", "Hidden Quad"]},
    "guessed": {"strategies_used": ["Brute Force", "Jellyfish"]},
    "unknown": {"strategies_used": None},
}
CHOSEN = {
    "kaggle": {"from kaggle"},
    "hard": {"rated", "rated highest", "long", "longest", "pairs", "a triple", "a wing", "chains", "guessed"},
    "extreme": {"rated highest", "longest", "a wing", "chains", "guessed"},
    "deduction_only": {"pairs", "a triple", "a wing", "chains"},
}


@pytest.mark.parametrize("only", CHOSEN)
def test_the_published_filters_choose_the_published_puzzles(only, copy, prepared):
    rows = [EASY | {"question": puzzle(n, "."), "answer": ANSWER} | row for n, row in enumerate(PUZZLES.values())]
    # What tells them apart after the filter is how many clues they have.
    for n, row in enumerate(rows):
        row["question"] = "." * (n + 1) + ANSWER[n + 1 :]
    folder = copy(train_jsonl=rows, test_jsonl=rows)
    found, tokenizer = prepared("sudoku_extreme", folder, "train", f"data.arguments.only={only}")
    blanks = [list(row["prompt_ids"]).count(tokenizer.mask_token_id) for row in found]
    assert {list(PUZZLES)[count - 1] for count in blanks} == CHOSEN[only]
    assert len(blanks) == len(CHOSEN[only])


def test_training_goes_along_the_trajectories_and_evaluation_does_not(copy, prepared):
    way = ["." * 30 + ANSWER[30:], "." * 20 + ANSWER[20:], "." * 5 + ANSWER[5:], ANSWER]
    rows = [EASY | {"question": way[0], "answer": ANSWER, "trajectory": found} for found in (way, None, way[1:])]
    folder = copy(train_jsonl=rows, test_jsonl=rows * 2)
    option = "data.splits.train.arguments.trajectory=true"
    train, tokenizer = prepared("sudoku_extreme", folder, "train", option)
    test, _ = prepared("sudoku_extreme", folder, "test", option)
    assert [row["prompt_ids"].count(tokenizer.mask_token_id) for row in train] == [30, 20, 5, 30, 30, 20, 5]
    assert all(row["input_ids"] == [7 + int(digit) for digit in ANSWER] for row in train)
    assert [row["prompt_ids"].count(tokenizer.mask_token_id) for row in test] == [30] * 3


def test_a_board_that_contradicts_the_answer_is_on_no_way_to_it(copy, prepared):
    wrong = str(int(ANSWER[0]) % 9 + 1) + ANSWER[1:80] + "."
    row = EASY | {"question": "." * 81, "answer": ANSWER, "trajectory": ["." * 81, wrong, ANSWER]}
    with pytest.raises(DataError, match="is not on the way"):
        prepared("sudoku_extreme", copy(train_jsonl=[row]), "train", "data.arguments.trajectory=true")


def test_a_filter_that_is_none_is_named():
    with pytest.raises(ConfigError, match="no 'harder' puzzles"):
        published.preprocess({"question": [ANSWER], "answer": [ANSWER]}, None, only="harder")
