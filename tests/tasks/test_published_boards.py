"""Graphs to colour and queens to place as they are published: two sizes in one set, filled up with zeros or not."""

from __future__ import annotations

from itertools import combinations, product
from random import Random

import pytest
import torch

from xlm_core.config import TokenizerConfig
from xlm_core.data import tokenizers
from xlm_core.errors import ConfigError, DataError
from xlm_core.protocols import Prediction
from xlm_core.tasks import coloring, queens
from xlm_core.tasks.coloring import published as graphs
from xlm_core.tasks.queens import published as boards

NUMBERS = tokenizers.build(TokenizerConfig(kind="numbers", size=6))
"""Number n has the id 7 + n, whatever the size."""

QUEENS = {8: (0, 4, 7, 5, 2, 6, 1, 3), 10: (1, 3, 5, 7, 9, 0, 2, 4, 6, 8)}
"""The column of each row's queen."""


def attack(one, other):
    return one[0] == other[0] or one[1] == other[1] or abs(one[0] - other[0]) == abs(one[1] - other[1])


def free(columns):
    return not any(attack(*pair) for pair in combinations(enumerate(columns), 2))


def proper(edges, colours):
    return all(a != b for (a, b), edge in zip(combinations(colours, 2), edges, strict=True) if edge == 2)


def graph(vertices, seed):
    """Edges between vertices of different colours alone."""
    random = Random(seed)
    colours = [random.choice((3, 4, 5)) for _ in range(vertices)]
    edges = [1 if a == b else random.choice((1, 2)) for a, b in combinations(colours, 2)]
    return {"input": edges, "target": colours, "config": f"{vertices}-vertex"}


def board(size, number):
    """A solution, mirrored or not, of which a few queens are given."""
    columns = QUEENS[size] if number % 2 else QUEENS[size][::-1]
    assert free(columns)
    full = [2 if columns[cell // size] == cell % size else 1 for cell in range(size * size)]
    given = [value if value == 2 and (cell // size + number) % 3 == 0 else 1 for cell, value in enumerate(full)]
    return {"input": given, "target": full, "config": f"{size}x{size}"}


def filled_up(row, *widths):
    lists = zip(("input", "target"), widths, strict=True)
    return row | {name: row[name] + [0] * (width - len(row[name])) for name, width in lists}


def sets(name, count, seed=0):
    """Rows of both sizes in turn; the smaller ones filled up in one half of them."""
    made = []
    for n in range(seed, seed + count):
        small, large, widths = (
            (graph(8, n), graph(10, n), (45, 10)) if name == "coloring" else (board(8, n), board(10, n), (100, 100))
        )
        made += [filled_up(small, *widths) if n % 2 else small, large]
    return made


SETS = {
    "coloring_published": ("coloring", "8-vertex", 36),
    "coloring_10_published": ("coloring", "10-vertex", 55),
    "queens_published": ("queens", "8x8", 64),
    "queens_10_published": ("queens", "10x10", 100),
}


def expected(row, mask):
    """The prompt and the answer of a raw row: number n has the id 7 + n."""
    given, full = ([number for number in row[name] if number] for name in ("input", "target"))
    if "-" not in row["config"]:
        return [9 if number == 2 else mask for number in given], [7 + number for number in full]
    return [7 + n for n in given] + [mask] * len(full), [7 + n for n in given + full]


@pytest.mark.parametrize("name", SETS)
def test_the_rows_of_one_size_and_two_halves_of_the_test(name, copy, prepared):
    task, config, length = SETS[name]
    kind = "jsonl" if "10" in name else "parquet"
    train, test = sets(task, 6), sets(task, 10, seed=100)
    folder = copy(**{f"train-00000_{kind}": train, f"test-00000_{kind}": test})
    made = {split: prepared(name, folder, split)[0] for split in ("train", "validation", "test")}
    mask = NUMBERS.mask_token_id
    pairs = {split: [(row["prompt_ids"], row["input_ids"]) for row in rows] for split, rows in made.items()}
    assert pairs["train"] == [expected(row, mask) for row in train if row["config"] == config]
    held_out = [expected(row, mask) for row in test if row["config"] == config]
    assert sorted(pairs["validation"] + pairs["test"]) == sorted(held_out)
    assert len(held_out) == 10
    assert min(len(pairs["validation"]), len(pairs["test"])) > 1
    assert {len(answer) for rows in pairs.values() for _, answer in rows} == {length}


def judged(task, row, answers):
    prompt, answer = expected(row, NUMBERS.mask_token_id)
    kept = len(answer) - len(answers[0])
    ids = torch.tensor([answer[:kept] + [7 + number for number in one] for one in answers])
    batch = {"prompt_ids": torch.tensor([prompt] * len(ids))}
    return task.valid(Prediction(ids, torch.ones(len(ids))), batch, NUMBERS)["valid"].total.bool().tolist()


def test_valid_colourings_are_those_that_trying_every_one_finds():
    row = graph(8, 0)
    answers = list(product((3, 4, 5), repeat=8))
    truth = [proper(row["input"], colours) for colours in answers]
    assert truth.count(True) >= 6
    assert judged(coloring, row, answers) == truth


def test_valid_boards_are_those_where_no_queen_attacks():
    row = board(8, 1) | {"input": [1] * 64}
    columns = [QUEENS[8], QUEENS[8][::-1]]
    for one, other in combinations(range(8), 2):
        swapped = list(QUEENS[8])
        swapped[one], swapped[other] = swapped[other], swapped[one]
        columns.append(tuple(swapped))
    answers = [[2 if each[cell // 8] == cell % 8 else 1 for cell in range(64)] for each in columns]
    truth = [free(each) for each in columns]
    assert 2 <= truth.count(True) < len(truth)
    assert judged(queens, row, answers) == truth


def changed(row, column, place, value):
    return row | {column: [*row[column][:place], value, *row[column][place + 1 :]]}


ROW, BOARD = graph(8, 0), board(8, 0)
TWO = combinations(range(8), 2)
JOINED = next(n for n, (a, b) in enumerate(TWO) if ROW["target"][a] == ROW["target"][b])
"""An edge that would join two vertices of one colour."""
PLACE = BOARD["target"].index(1)
WRONG = {
    "a missing edge": (graphs, ROW | {"input": ROW["input"][:-1]}, "no input of 8-vertex"),
    "a size that is another": (graphs, graph(10, 0) | {"config": "8-vertex"}, "no input of 8-vertex"),
    "a colour among the edges": (graphs, changed(ROW, "input", 3, 3), "no input of 8-vertex"),
    "an edge among the colours": (graphs, changed(ROW, "target", 3, 2), "no target of 8-vertex"),
    "a vertex without a colour": (graphs, changed(ROW, "target", 3, 0), "no target of 8-vertex"),
    "one colour at both ends": (graphs, changed(ROW, "input", JOINED, 2), "does not colour the graph"),
    "a cell too many": (boards, BOARD | {"target": [*BOARD["target"], 1]}, "no target of 8x8"),
    "a cell that is text": (boards, BOARD | {"input": list(map(str, BOARD["input"]))}, "no input of 8x8"),
    "a queen too many": (boards, changed(BOARD, "target", PLACE, 2), "does not solve the board"),
    "a queen that moved": (boards, changed(BOARD, "input", PLACE, 2), "does not solve the board"),
}


@pytest.mark.parametrize(("task", "row", "message"), WRONG.values(), ids=WRONG)
def test_a_row_that_is_wrong_is_refused(task, row, message):
    right, config = (ROW, "8-vertex") if task is graphs else (BOARD, "8x8")
    rows = {name: [right[name], row[name]] for name in right}
    with pytest.raises(DataError, match=message):
        task.preprocess(rows, NUMBERS, config=config)
    rows = {**rows, "config": [config, "another"]}
    assert len(task.preprocess(rows, NUMBERS, config=config)["input_ids"]) == 1


@pytest.mark.parametrize("row", [ROW | {"target": None}, {name: ROW[name] for name in ("input", "target")}])
def test_a_row_with_another_schema_is_refused(row, copy, prepared):
    with pytest.raises(DataError, match="failed on a row from 0 on of the split train"):
        prepared("coloring_published", copy(train_jsonl=[row], test_jsonl=[row] * 2), "train")


@pytest.mark.parametrize(("task", "hint"), [(graphs, "8-vertex, 10-vertex"), (boards, "8x8, 10x10")])
def test_a_size_that_there_is_not_is_named(task, hint):
    with pytest.raises(ConfigError, match="no boards '9'") as caught:
        task.preprocess({"input": [], "target": [], "config": []}, NUMBERS, config="9")
    assert hint in caught.value.hint


def test_a_copy_with_other_sizes_only_has_no_rows(copy, prepared):
    with pytest.raises(DataError, match="no rows left"):
        prepared("queens_10_published", copy(train_jsonl=[BOARD], test_jsonl=[BOARD] * 2), "train")
