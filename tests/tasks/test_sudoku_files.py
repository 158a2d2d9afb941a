"""Puzzles that others have published: Kaggle's columns, and those of sudoku-extreme."""

from __future__ import annotations

import pytest

from xlm_core.errors import DataError
from xlm_core.tasks.sudoku import quizzes

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
