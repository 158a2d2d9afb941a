from functools import cache
from itertools import combinations, permutations

import numpy as np
import pytest
import torch

from xlm_core.config import TokenizerConfig
from xlm_core.data import tokenizers
from xlm_core.errors import ConfigError, DataError
from xlm_core.protocols import Prediction
from xlm_core.tasks.queens import boards, generate, preprocess, valid

TOKENIZER = tokenizers.build(TokenizerConfig(kind="numbers", size=3))
LAW = {"size": 8, "fewest": 1, "most": 6, "validation_solutions": 1, "test_solutions": 2}
SPLITS = ("train", "validation", "test")


def attack(one, other):
    (row, column), (other_row, other_column) = one, other
    return row == other_row or column == other_column or abs(row - other_row) == abs(column - other_column)


@cache
def peaceful(size):
    """All solutions, from all permutations: sets of (row, column)."""
    boards = (frozenset(enumerate(columns)) for columns in permutations(range(size)))
    return [board for board in boards if not any(attack(*pair) for pair in combinations(board, 2))]


def places(cells):
    size = int(len(cells) ** 0.5)
    return frozenset(divmod(cell, size) for cell, number in enumerate(cells) if number == 2)


@cache
def rows(split, **arguments):
    made = {name: column.to_pylist() for name, column in generate(split, **{**LAW, **arguments}).items()}
    return [(places(given), places(target)) for given, target in zip(made["input"], made["target"], strict=True)]


def images(queens, size):
    """By turning a quarter, and mirroring."""
    for _ in range(4):
        queens = frozenset((column, size - 1 - row) for row, column in queens)
        yield queens
        yield frozenset((row, size - 1 - column) for row, column in queens)


def test_the_published_numbers_of_solutions():
    assert [len(boards.solutions(size)) for size in range(1, 11)] == [1, 0, 0, 2, 10, 4, 40, 92, 352, 724]
    assert [len(set(boards.orbits(boards.solutions(size)))) for size in (4, 5, 6, 7, 8, 9, 10)] == [1, 2, 1, 6, 12, 46, 92]


def test_solutions_are_those_among_all_permutations():
    found = {frozenset(enumerate(row)) for row in boards.solutions(8).tolist()}
    assert found == set(peaceful(8))


def test_orbits_are_closed_under_turning_and_mirroring():
    queens = boards.solutions(7)
    orbit = {frozenset(enumerate(row)): number for row, number in zip(queens.tolist(), boards.orbits(queens), strict=True)}
    for board, number in orbit.items():
        assert {other for other in orbit if orbit[other] == number} == set(images(board, 7))


# Distinct boards with so many queens left, counted by others.
PARTIALS = {1: 64, 2: 1052, 3: 4032, 4: 6040, 5: 5072, 6: 2568, 7: 736, 8: 92}


def test_every_question_is_asked_once_or_straddles_validation_and_test():
    asked = [given for split in SPLITS for given, _ in rows(split, most=8)]
    assert len(set(asked)) == len(asked)
    possible = {frozenset(part) for board in peaceful(8) for n in range(1, 9) for part in combinations(sorted(board), n)}
    assert {n: sum(len(question) == n for question in possible) for n in PARTIALS} == PARTIALS
    assert set(asked) <= possible
    seen = {split: {target for _, target in rows(split, most=8)} for split in SPLITS}
    for question in possible - set(asked):
        answers = {board for board in peaceful(8) if question <= board}
        assert not answers & seen["train"]
        assert answers & seen["validation"]
        assert answers & seen["test"]


@pytest.mark.parametrize("split", SPLITS)
def test_targets_complete_what_is_given(split):
    solutions = set(peaceful(8))
    for given, target in rows(split):
        assert given <= target
        assert target in solutions
    assert {len(given) for given, _ in rows(split)} == set(range(1, 7)) - ({1} if split != "train" else set())


def test_no_answer_to_a_held_out_question_is_seen_in_training_not_even_turned():
    shown = {target for _, target in rows("train")}
    known = {image for board in shown for image in images(board, 8)}
    for split in ("validation", "test"):
        for given, _ in rows(split):
            assert not {board for board in peaceful(8) if given <= board} & known


def test_where_there_are_several_answers_each_is_shown():
    shown = [target for given, target in rows("train") if len(given) == 1]
    assert len(shown) == 64
    assert len(set(shown)) > 30


def test_the_order_is_random_and_a_function_of_the_seed():
    assert rows("test") == [*rows("test", fewest=1)]
    assert rows("test", seed=1) != rows("test")
    counts = np.array([len(given) for given, _ in rows("train")])
    assert abs(counts[: len(counts) // 2].mean() - counts.mean()) < 0.05


def test_golden_row():
    solution = [1, 2, 1, 1, 1, 1, 1, 2, 2, 1, 1, 1, 1, 1, 2, 1]
    given = [1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    made = preprocess({"input": [given], "target": [solution]}, TOKENIZER)
    mask = TOKENIZER.mask_token_id
    assert made == {"input_ids": [[number + 7 for number in solution]], "prompt_ids": [[mask, 9] + [mask] * 14]}


def judged(given, answers, width=None):
    size = 8
    number = lambda queens: [2 if divmod(cell, size) in queens else 1 for cell in range(size * size)]  # noqa: E731
    prompt = preprocess({"input": [number(given)], "target": [number(given)]}, TOKENIZER)["prompt_ids"]
    ids = torch.tensor([[value + 7 for value in number(answer)] for answer in answers])[:, :width]
    batch = {"prompt_ids": torch.tensor(prompt * len(answers))}
    return valid(Prediction(ids, torch.ones(len(ids))), batch, TOKENIZER)["valid"].total.bool().tolist()


def test_any_completion_is_valid_and_nothing_else():
    given = frozenset([(0, 0)])
    right = [board for board in peaceful(8) if given <= board]
    assert len(right) == 4
    assert judged(given, right) == [True] * 4
    assert judged(given, peaceful(8)).count(True) == 4
    assert judged(frozenset(), peaceful(8)) == [True] * 92


def test_validity_is_what_attack_says():
    rng = np.random.default_rng(0)
    answers = [*peaceful(8)[:5]]
    for board in peaceful(8)[:40]:
        queens = sorted(board)
        row = rng.integers(8)
        queens[row] = (row, int(rng.integers(8)))
        answers.append(frozenset(queens))
    answers += [frozenset((row, (row + 3) % 8) for row in range(8)), frozenset(sorted(peaceful(8)[0])[1:])]
    truth = [len(board) == 8 and not any(attack(*pair) for pair in combinations(board, 2)) for board in answers]
    assert 5 <= sum(truth) < len(truth) - 10
    assert judged(frozenset(), answers) == truth


def test_a_short_board_is_not_valid():
    assert judged(frozenset(), peaceful(8)[:1], width=63) == [False]


def test_slips_are_named():
    with pytest.raises(ConfigError, match="5 to 3 of 8"):
        generate("train", **{**LAW, "fewest": 5, "most": 3})
    with pytest.raises(ConfigError, match="12 solutions cannot be divided"):
        generate("train", **{**LAW, "test_solutions": 11})
    with pytest.raises(DataError, match="dev"):
        generate("dev", **LAW)
