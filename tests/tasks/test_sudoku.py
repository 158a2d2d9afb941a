from functools import cache

import numpy as np
import pytest
import torch

from xlm_core.config import TokenizerConfig
from xlm_core.data import tokenizers
from xlm_core.errors import ConfigError, DataError
from xlm_core.protocols import Prediction
from xlm_core.tasks.sudoku import generate, preprocess, preprocess_order, puzzles, solver, symmetry, valid, valid_order

TOKENIZER = tokenizers.build(TokenizerConfig(kind="numbers", size=10))
SIZES = {"train": 60, "validation": 20, "test": 30}
SMALL = 60
"""Puzzles in a block."""
DIFFICULTIES = ["easy", "medium", "hard"]


@pytest.fixture(autouse=True, scope="module")
def blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(puzzles, "BLOCK", SMALL)
        puzzles._block.cache_clear()
        yield
    puzzles._block.cache_clear()


@cache
def rows(difficulty, split, **arguments):
    made = generate(split, difficulty=difficulty, **{**SIZES, **arguments})
    return list(zip(*(column.to_pylist() for column in made.values()), strict=True))


def peers(cell):
    """The rules, written down anew: the other cells of its row, column and box."""
    row, column = divmod(cell, 9)
    same_box = [r * 9 + c for r in range(9) for c in range(9) if (r // 3, c // 3) == (row // 3, column // 3)]
    return {*range(9 * row, 9 * row + 9), *range(column, 81, 9), *same_box} - {cell}


PEERS = [peers(cell) for cell in range(81)]


def options(board, cell):
    return [digit for digit in "123456789" if all(board[peer] != digit for peer in PEERS[cell])]


def solve(board, most=2):
    """All solutions up to `most`, by backtracking in the cell with fewest options."""
    lines = [(cell // 9, 9 + cell % 9, 18 + cell // 27 * 3 + cell % 9 // 3) for cell in range(81)]
    used, digits, found = [0] * 27, [0 if digit == "." else int(digit) for digit in board], []

    def flip(cell, digit):
        for line in lines[cell]:
            used[line] ^= 1 << digit

    def fill(blanks):
        if not blanks:
            found.append("".join(map(str, digits)))
            return
        taken = {cell: used[lines[cell][0]] | used[lines[cell][1]] | used[lines[cell][2]] for cell in blanks}
        cell = max(blanks, key=lambda cell: taken[cell].bit_count())
        for digit in range(1, 10):
            if not taken[cell] >> digit & 1 and len(found) < most:
                digits[cell] = digit
                flip(cell, digit)
                fill([other for other in blanks if other != cell])
                flip(cell, digit)

    for cell, digit in enumerate(digits):
        if digit:
            if any(used[line] >> digit & 1 for line in lines[cell]):
                return []
            flip(cell, digit)
    fill([cell for cell in range(81) if not digits[cell]])
    return found


def is_solution(board):
    return all(board[cell] in "123456789" and all(board[peer] != board[cell] for peer in PEERS[cell]) for cell in range(81))


def singles(board):
    """What naked and hidden singles fill in, one cell after the other."""
    while True:
        for cell in range(81):
            if board[cell] != ".":
                continue
            left = options(board, cell)
            row, column = divmod(cell, 9)
            units = [
                [9 * row + c for c in range(9)],
                [9 * r + column for r in range(9)],
                [9 * r + c for r in range(9) for c in range(9) if (r // 3, c // 3) == (row // 3, column // 3)],
            ]
            hidden = [
                digit
                for digit in left
                for unit in units
                if not any(board[other] == "." and other != cell and digit in options(board, other) for other in unit)
            ]
            if len(left) == 1 or hidden:
                board = board[:cell] + (left if len(left) == 1 else hidden)[0] + board[cell + 1 :]
                break
        else:
            return board


def bits(*boards):
    return solver.bits(np.array([[int(digit) for digit in board.replace(".", "0")] for board in boards], np.int8))


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_the_answer_is_the_only_one(difficulty):
    for question, answer, *_ in rows(difficulty, "test")[:30]:
        assert all(asked in (".", digit) for asked, digit in zip(question, answer, strict=True))
        assert is_solution(answer)
        assert solve(question) == [answer]


def test_easy_and_medium_are_solved_by_singles_and_hard_ones_are_not():
    for difficulty in ("easy", "medium"):
        assert all(singles(question) == answer for question, answer, *_ in rows(difficulty, "test")[:8])
    assert all("." in singles(question) for question, *_ in rows("hard", "test")[:8])


def test_hard_ones_have_no_clue_to_spare():
    for question, *_ in rows("hard", "test")[:4]:
        for cell in range(81):
            if question[cell] != ".":
                assert len(solve(question[:cell] + "." + question[cell + 1 :])) == 2


def test_how_many_clues_there_are():
    clues = {d: [81 - question.count(".") for question, *_ in rows(d, "test")] for d in DIFFICULTIES}
    assert min(clues["easy"]) >= 50
    assert 53 < np.mean(clues["easy"]) < 57
    assert 30 <= min(clues["medium"]) <= np.mean(clues["medium"]) < 37
    assert 20 <= min(clues["hard"]) <= np.mean(clues["hard"]) < 26


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_the_order_fills_what_is_blank_and_follows_from_what_is_there(difficulty):
    for question, answer, order, steps, guesses in rows(difficulty, "test")[:15]:
        assert sorted(order) == [cell for cell in range(81) if question[cell] == "."]
        assert (guesses > 0) == (difficulty == "hard")
        assert 0 < steps <= len(order)
        if difficulty == "easy":
            board = question
            for cell in order:
                # Within a sweep the order is that of reading, so a cell may wait for a later one of the same sweep.
                assert answer[cell] in options(board, cell)
                board = board[:cell] + answer[cell] + board[cell + 1 :]
            assert board == answer


def test_a_sweep_writes_exactly_the_singles():
    """Against the same from the rules, cell by cell: naked ones first, then what is hidden once their digits are struck."""
    for question, *_ in rows("medium", "test")[:10]:
        swept = solver.sweep(bits(question))
        left = {cell: set(options(question, cell)) if question[cell] == "." else {question[cell]} for cell in range(81)}
        units = [[int(cell) for cell in unit] for unit in solver.UNITS]
        for cell in range(81):
            hidden = {d for unit in units if cell in unit for d in left[cell] if sum(d in left[other] for other in unit) == 1}
            expected = hidden or left[cell]
            assert {str(d) for d in range(1, 10) if int(swept[cell, 0]) >> (d - 1) & 1} == expected


def test_the_first_cells_of_the_order_are_the_singles_of_the_question():
    for question, _, order, *_ in rows("medium", "test")[:10]:
        swept = solver.sweep(bits(question))
        known = [cell for cell in range(81) if question[cell] == "." and not solver.is_open(swept)[cell, 0]]
        assert order[: len(known)] == known


def test_units():
    for unit in solver.UNITS:
        assert all(set(unit) - {cell} <= PEERS[cell] for cell in unit)
    assert len({tuple(sorted(unit)) for unit in solver.UNITS}) == 27


def test_solutions_are_counted_as_backtracking_counts_them():
    boards = []
    for question, answer, *_ in rows("medium", "test")[:10]:
        clues = [cell for cell in range(81) if question[cell] != "."]
        for gone in (set(clues[:2]), set(clues[:5]), set(clues[:8])):
            boards += ["".join("." if cell in gone else digit for cell, digit in enumerate(question))]
        wrong = question[: clues[0]] + str(int(question[clues[0]]) % 9 + 1) + question[clues[0] + 1 :]
        boards += [wrong, answer]
    counts = [len(solve(board, 40)) for board in boards]
    assert {0, 1} < set(counts)
    assert max(counts) > 5
    assert solver.count_solutions(bits(*boards), 40).clip(max=40).tolist() == counts
    assert solver.count_solutions(bits(*boards), 2).clip(max=2).tolist() == [min(count, 2) for count in counts]


def test_two_equal_digits_in_a_unit_contradict_each_other_at_once():
    for board in ("11" + "." * 79, "1" + "." * 8 + "1" + "." * 71, "1" + "." * 9 + "1" + "." * 70):
        assert not solver.sweep(bits(board)).any()


def test_an_empty_board_is_no_trouble():
    assert solver.count_solutions(bits("." * 81), 2)[0] >= 2


def test_grids_are_full_and_differ():
    grid = solver.digits(puzzles.grids(200, np.random.default_rng(0)))
    boards = {"".join(map(str, row)) for row in grid.tolist()}
    assert len(boards) == 200
    assert all(is_solution(board) for board in boards)


def shape(question):
    """The same for all images of a puzzle: how many clues its units have."""
    return tuple(sorted(sum(question[cell] != "." for cell in unit) for unit in solver.UNITS))


def test_symmetric_images_have_one_solution_and_as_many_clues_everywhere():
    questions, answers, *_ = zip(*rows("medium", "test"), strict=True)
    given = np.array([[digit != "." for digit in question] for question in questions]).T
    made, moved = symmetry.images(bits(*answers), given, np.random.default_rng(0))
    digits = solver.digits(made)
    for before, after, clue in zip(questions, digits.tolist(), moved.T, strict=True):
        image = "".join(str(digit) if known else "." for digit, known in zip(after, clue, strict=True))
        assert solve(image) == ["".join(map(str, after))]
        assert shape(image) == shape(before)
        assert image != before


def test_copies_are_images_of_the_puzzles_that_there_would_be():
    plain = rows("easy", "train", train=SMALL)
    images = rows("easy", "train", train=3 * SMALL, copies=3)
    assert len({question for question, *_ in images}) == 3 * SMALL
    assert {shape(question) for question, *_ in images} == {shape(question) for question, *_ in plain}
    assert all(solve(question) == [answer] for question, answer, *_ in images)
    assert rows("easy", "test", copies=3) == rows("easy", "test")


def test_images_reach_every_symmetry_of_lines_and_names():
    grid = puzzles.grids(1, np.random.default_rng(1)).repeat(600, axis=1)
    # One clue each, at cell 0: under the group it goes to every cell and to every digit equally often.
    given = np.zeros((81, 600), bool)
    given[0] = True
    made, moved = symmetry.images(grid, given, np.random.default_rng(2))
    assert (moved.sum(0) == 1).all()
    assert len(set(moved.argmax(0).tolist())) == 81
    assert len(set(solver.digits(made)[np.arange(600), moved.argmax(0)].tolist())) == 9


def test_keys_see_through_names_and_transposition():
    question = np.array([[int(d) for d in q.replace(".", "0")] for q, *_ in rows("medium", "test")[:20]], np.int8)
    names = np.array([0, 4, 9, 1, 2, 8, 7, 3, 5, 6], np.int8)
    same = names[question].reshape(-1, 9, 9).swapaxes(1, 2).reshape(-1, 81)
    keys = symmetry.keys({"question": question})
    assert symmetry.keys({"question": same}) == keys
    assert len(set(keys)) == 20
    moved = question.copy()
    moved[:, :9], moved[:, 9:18] = question[:, 9:18], question[:, :9]
    assert not set(symmetry.keys({"question": moved})) & set(keys)


def test_puzzles_depend_on_seed_difficulty_split_and_number_alone():
    def first(split, **arguments):
        made = generate(split, difficulty="easy", **{**SIZES, **arguments})
        return [column.to_pylist()[:20] for column in made.values()]

    assert first("test") == first("test", test=70)
    assert first("train") == first("train", test=10)
    assert first("test") != first("validation")
    assert first("test") != first("test", seed=1)


BOARD = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
PUZZLE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"


def test_golden_rows():
    assert solve(PUZZLE) == [BOARD]
    made = preprocess({"question": [PUZZLE, PUZZLE.replace(".", "0")], "answer": [BOARD, BOARD]}, TOKENIZER)
    mask = TOKENIZER.mask_token_id
    assert made["prompt_ids"][0][:9] == [12, 10, mask, mask, 14, mask, mask, mask, mask]
    assert made["input_ids"][0][:9] == [12, 10, 11, 13, 14, 15, 16, 8, 9]
    assert made["prompt_ids"][1] == made["prompt_ids"][0]
    made = preprocess_order({"question": [PUZZLE], "answer": [BOARD], "order": [[80 - 8, 2]]}, TOKENIZER)
    assert TOKENIZER.decode(made["prompt_ids"][0]).split()[:9] == list("530070000")
    assert TOKENIZER.decode(made["input_ids"][0]).split() == ["9", "1", "3", "1", "3", "4"]


def test_tokenizers_without_the_digits_are_refused():
    with pytest.raises(DataError, match="0 to 9"):
        preprocess({"question": [PUZZLE], "answer": [BOARD]}, tokenizers.build(TokenizerConfig(kind="numbers", size=9)))


def measure(metric, answers, prompt_ids):
    """A metric's values of answers, each a list of words, to one prompt."""
    ids = [TOKENIZER.convert_tokens_to_ids(answer) for answer in answers]
    width = max(map(len, ids))
    padded = torch.tensor([row + [TOKENIZER.pad_token_id] * (width - len(row)) for row in ids])
    batch = {"prompt_ids": torch.tensor([prompt_ids] * len(ids))}
    found = metric(Prediction(padded, torch.ones(len(ids))), batch, TOKENIZER)
    return {name: (ratio.total / ratio.count).tolist() for name, ratio in found.items()}


def test_validity_needs_the_rules_and_the_clues():
    prompt = preprocess({"question": [PUZZLE], "answer": [BOARD]}, TOKENIZER)["prompt_ids"][0]
    other = [str(int(digit) % 9 + 1) for digit in BOARD]  # the rules hold, the clues are gone
    twice = list(BOARD)
    twice[2] = "5"
    answers = [list(BOARD), other, twice, list(BOARD)[:80], [*BOARD, "1"], [*BOARD[:80], "[MASK]"], ["0", *BOARD[1:]]]
    found = measure(valid, answers, prompt)
    assert found["valid"] == [1, 0, 0, 0, 0, 0, 0]
    # One wrong cell spoils its row, column and box; a wrong digit that is there twice spoils nothing else.
    assert [round(27 * share) for share in found["units"]] == [27, 27, 24, 24, 27, 24, 24]


@pytest.mark.parametrize("difficulty", ["easy", "hard"])
def test_targets_are_valid(difficulty):
    questions, answers, orders, *_ = zip(*rows(difficulty, "test"), strict=True)
    made = preprocess({"question": questions, "answer": answers}, TOKENIZER)
    batch = {"prompt_ids": torch.tensor(made["prompt_ids"])}
    assert valid(Prediction(torch.tensor(made["input_ids"]), torch.ones(30)), batch, TOKENIZER)["valid"].total.sum() == 30
    made = preprocess_order({"question": questions, "answer": answers, "order": orders}, TOKENIZER)
    width = max(map(len, made["input_ids"])) + 1
    ids = torch.tensor([row + [TOKENIZER.pad_token_id] * (width - len(row)) for row in made["input_ids"]])
    batch = {"prompt_ids": torch.tensor(made["prompt_ids"])}
    assert valid_order(Prediction(ids, torch.ones(30)), batch, TOKENIZER)["valid"].total.sum() == 30


def test_validity_of_an_order_needs_every_blank_cell_once():
    question = BOARD[:2] + "." + BOARD[3:80] + "."
    prompt = preprocess_order({"question": [question], "answer": [BOARD], "order": [[2, 80]]}, TOKENIZER)["prompt_ids"][0]
    right = ["1", "3", "4", "9", "9", "9"]
    answers = [
        right,
        [*right[3:], *right[:3]],
        right[:5],
        right[:3],
        [*right, *right[:3]],
        [*right[:3], "9", "9", "8"],
        [*right, "1", "1", "5"],
        ["1", "1", "5", *right[3:]],
        ["0", "1", "5", *right[3:]],
        [*right, "1"],
        [*right[:3], "9", "9", "[MASK]"],
    ]
    assert measure(valid_order, answers, prompt)["valid"] == [1, 1] + [0] * 9


def test_slips_are_named():
    with pytest.raises(ConfigError, match="extreme"):
        generate("train", difficulty="extreme")
    with pytest.raises(ConfigError, match="copies"):
        generate("train", difficulty="easy", copies=0)
    with pytest.raises(DataError, match="dev"):
        generate("dev", difficulty="easy")


def test_training_can_go_along_the_way_of_the_solver():
    def way(board):
        while "." in board:
            yield board
            board = "".join(str(digit or ".") for digit in solver.digits(solver.sweep(bits(board)))[0])

    made = rows("medium", "train", trajectory=True)
    assert len(made) == SIZES["train"]
    puzzles = dict(row[:2] for row in rows("medium", "train"))
    expected = [(board, answer) for question, answer in puzzles.items() for board in way(question)]
    assert [row[:2] for row in made] == expected[: SIZES["train"]]
    assert [row[3] for row in made[:5]] == list(range(made[0][3], made[0][3] - 5, -1))
    assert rows("medium", "test", trajectory=True) == rows("medium", "test")
