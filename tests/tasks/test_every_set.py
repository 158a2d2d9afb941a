"""Every data set of core trains a family for two steps, or is measured where it has nothing to train on, with its own metrics
and evaluators: on rows of the published schema, or of its generator, by the code that a user's run takes.

Rows with an even number get the right answer in place of what the network says, so that metrics are neither all nor nothing.
What was measured is then calculated again from the written predictions, in plain Python.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from itertools import chain, combinations

import pytest

from xlm_core import composition, families, run, searchpath
from xlm_core.canvas import pad
from xlm_core.data import tokenizers
from xlm_core.hookspecs import hookimpl
from xlm_core.tasks import coloring, queens
from xlm_core.tasks.sudoku import puzzles

INSTALLED = families.installed()
DATA = sorted(searchpath.options(searchpath.sources())["data"])
Row = Mapping
Truth = Mapping[str, Callable[[Row], Iterable[float]]]
"""What a metric is the mean of: for each line of the predictions, some numbers."""


# What is measured, again


def fits(line: Row) -> bool:
    """Whether all that was given is where it was."""
    asked, made = line["prompt"].split(), line["text"].split()
    return len(asked) == len(made) and all(a in ("[MASK]", b) for a, b in zip(asked, made, strict=True))


def colored(line: Row) -> list[bool]:
    cells = line["text"].split()
    size = next(n for n in range(99) if n * (n + 1) // 2 == len(cells))
    colours = cells[-size:]
    ends = zip(combinations(colours, 2), cells[:-size], strict=True)
    return [fits(line) and set(colours) <= set("345") and all(a != b for (a, b), edge in ends if edge == "2")]


def peaceful(line: Row) -> list[bool]:
    cells = line["text"].split()
    size = math.isqrt(len(cells))
    places = [divmod(n, size) for n, cell in enumerate(cells) if cell == "2"]
    apart = all(a != c and b != d and abs(a - c) != abs(b - d) for (a, b), (c, d) in combinations(places, 2))
    return [fits(line) and set(cells) <= set("12") and len(places) == size and apart]


def units(cells: Sequence[str]) -> list[bool]:
    """Of a Sudoku: which rows, columns and boxes have every digit."""
    lines = [[9 * n + k for k in range(9)] for n in range(9)] + [[9 * k + n for k in range(9)] for n in range(9)]
    boxes = [[27 * (n // 3) + 3 * (n % 3) + 9 * (k // 3) + k % 3 for k in range(9)] for n in range(9)]
    return [{cells[place] for place in unit} == set("123456789") for unit in lines + boxes]


def moved(line: Row) -> tuple[list[str], bool]:
    """The board after all moves of row, column and digit; and whether they fill each blank once, and nothing else."""
    board, made = line["prompt"].split(), line["text"].split()
    blanks = [n for n, digit in enumerate(board) if digit == "0"]
    moves = [made[n : n + 3] for n in range(0, len(made), 3)]
    places = []
    for row, column, digit in (move for move in moves if len(move) == 3 and "0" not in move):
        places.append(9 * int(row) + int(column) - 10)
        board[places[-1]] = digit
    return board, sorted(places) == blanks and len(places) == len(moves)


def holes(line: Row) -> list[bool]:
    cells = zip(line["prompt"].split(), line["text"].split(), line["target"].split(), strict=True)
    return [made == target for asked, made, target in cells if asked == "[MASK]"]


def tokens(line: Row) -> list[bool]:
    """Of the target, which is numbers or letters: whether the answer has it at the same place."""
    pieces = str.split if re.search(r"\d \d", line["target"]) else list
    made, target = pieces(line["text"]), pieces(line["target"])
    return [piece == made[n] if n < len(made) else False for n, piece in enumerate(target)]


SIMPLE = r"(?:John|Mary|Alice|(?:the|my|your) (?:(?:big|small|happy|sad) )?(?:man|telescope|elephant))"
OWNED = rf"{SIMPLE}(?: `s {SIMPLE})*"
THAT = "(?:said|thought) that"
ANY = rf"(?:{OWNED} {THAT} )*{OWNED} (?:sneezed|laughed|(?:chased|bought) {OWNED})"
OF_DEPTH = rf"(?:sneezed|laughed|(?:chased|bought) {SIMPLE}|{THAT} {SIMPLE} (?:sneezed|laughed))"
SYNTAX: Truth = {
    "grammatical": lambda line: [re.fullmatch(ANY, line["text"]) is not None],
    "in_language": lambda line: [re.fullmatch(rf"{SIMPLE}(?: `s {SIMPLE})? {OF_DEPTH}", line["text"]) is not None],
}
LENGTH: Truth = {"length": lambda line: [len(line["ids"])]}
LENGTHS: Truth = {**LENGTH, "target_length": lambda line: [len(tokens(line))]}
MATCH: Truth = {"exact_match": lambda line: [line["text"] == line["target"]]}
COLORED: Truth = {"valid": colored}
PEACEFUL: Truth = {"valid": peaceful}
SUDOKU: Truth = {
    **MATCH,
    "hole_accuracy": holes,
    "valid": lambda line: [fits(line) and all(units(line["text"].split()))],
    "units": lambda line: units(line["text"].split()),
}
MOVES: Truth = {
    **MATCH,
    **LENGTHS,
    "valid": lambda line: [moved(line)[1] and all(units(moved(line)[0]))],
    "units": lambda line: units(moved(line)[0]),
}
PATH: Truth = {**MATCH, **LENGTHS, "token_accuracy": tokens}
COVERAGE: Truth = {f"cfg_{name}": of for name, of in SYNTAX.items()}
PROGRAMS: Truth = {
    "code_accuracy": lambda line: [line["text"] == program(line["target"])],
    "code_gold": lambda line: [True],
}
FORMULAS: Truth = {"math_accuracy": lambda line: [line["text"] == boxed(line["target"])], "math_gold": lambda line: [True]}
PROTEINS: Truth = {"canonical": lambda line: [bool(line["text"]) and set(line["text"]) <= set("ACDEFGHIKLMNPQRSTVWY")]}
MOLECULES: Truth = {f"{form}/validity": lambda line: [line["text"] in MADE] for form in ("raw", "repaired")}
FRAGMENTS: Truth = {f"{form}/success": lambda line: [line["text"] == WHOLE] for form in ("raw", "repaired")}


# Rows as they are published


def texts(count: int, column: str = "text", text: str = "page {:03d}") -> list[Row]:
    return [{column: text.format(n)} for n in range(count)]


def program(target: str) -> str:
    """One that gives the target; a target that is no number is one."""
    return f"def simple_math_problem():\n    return {target}" if target.isdecimal() else target


def boxed(target: str) -> str:
    return rf"\boxed{{{target}}}"


def problems(count: int) -> list[Row]:
    return [{"question": f"How many are {n}?", "code": program(str(n)), "answer": f"Many.\n#### {n}"} for n in range(count)]


def mixed(small: Mapping, large: Mapping) -> list[Row]:
    """Eight rows of each of two sizes in turn, the smaller filled up with zeros."""
    rows = []
    for n in range(8):
        for made in (small, large):
            widths = {name: len(large[name][0]) for name in ("input", "target")}
            values = {name: made[name][n].as_py() for name in widths}
            filled = {name: [*row, *[0] * (widths[name] - len(row))] for name, row in values.items()}
            rows.append({**filled, "config": made["config"][n].as_py()})
    return rows


def graphs(split: str) -> list[Row]:
    few = {"train": 8, "validation": 1, "test": 8}
    return mixed(*(coloring.generate(split, vertices=n, density=0.5, **few) for n in (8, 10)))


def attacks(split: str) -> list[Row]:
    held = {8: (1, 2), 10: (6, 12)}
    laws = [{"size": n, "validation_solutions": v, "test_solutions": t} for n, (v, t) in held.items()]
    return mixed(*(queens.generate(split, fewest=law["size"] - 1, most=law["size"] - 1, **law) for law in laws))


def sudoku(question: str, answer: str, blank: str) -> list[Row]:
    full = "".join(str(1 + (3 * (row % 3) + row // 3 + column) % 9) for row in range(9) for column in range(9))
    boards = ["".join(blank if cell % 9 == n else digit for cell, digit in enumerate(full)) for n in range(8)]
    return [{question: board, answer: full} for board in boards]


SENTENCES = ("John sneezed", "Mary said that Alice thought that John laughed")
MADE = ("CCO", "c1ccccc1", "CC1.C1N", "C<1>.C<1>O")
WHOLE = "C23"
"""It makes CCc1ccccc1 of the fragments C2 and c31ccccc1."""
FRAGMENT = {"name": "A", "smiles": "CCc1ccccc1", "linker_design": "*C.*c1ccccc1"}
SAFE = {f"{split}_jsonl": texts(3, "safe", "CC1.C1N") for split in ("train", "validation", "test")}


# How each set is made small


@dataclass(frozen=True)
class Case:
    """A data set made small."""

    family: str
    truth: Truth
    """Of all metrics that the set names."""
    rows: int = 4
    """Of its test split: four of a generator's."""
    files: Callable[[], Mapping[str, Sequence[Row]]] | None = None
    """Its local copy, where it is published."""
    file: str = ""
    """The one of the copy that data.path names."""
    overrides: tuple[str, ...] = ()
    right: Callable[[str], str] | Sequence[str] | None = None
    """Answers that are right, in place of the target; of lm sets, which have none, in turn."""
    evaluated: Truth = field(default_factory=dict)
    """What the evaluators give, among others."""
    optional: tuple[str, str] | None = None
    """The evaluator that the comments of the config name, and the module that it needs."""
    document: int = 0
    """Bytes of each text of the test split, where each is a token."""

    def chosen(self, folder: str, byte_level: str) -> list[str]:
        """Overrides for a copy in a folder, with a tokenizer in place of what would be downloaded."""
        copy = [f"data.path={folder}{self.file}"] if self.files else [f"debug.rows={self.rows}"]
        return [*copy, *(override.format(byte_level=byte_level) for override in self.overrides)]


TOLD = "tokenizer.name={byte_level}"
FEW = "predictor.steps=4"
DRAWN = tuple(f"data.source.arguments.{split}=4" for split in ("train", "validation", "test"))
SHORT = ("data.length=16",)
RDKIT = ("molecules", "rdkit")
SPLITS = ("train", "test")
GRAPHS = {"truth": COLORED, "files": lambda: {f"{split}_jsonl": graphs(split) for split in SPLITS}, "overrides": (FEW,)}
ATTACKS = {"truth": PEACEFUL, "files": lambda: {f"{split}_parquet": attacks(split) for split in SPLITS}, "overrides": (FEW,)}
TESTED = ("~data.predict.validation", "trainer.max_steps=0")
CASES = {
    "arithmetic": Case("arlm", PATH, overrides=("data.length=160", "data.source.arguments.operations=1"), evaluated=PROGRAMS),
    "cfg": Case("arlm", {**SYNTAX, **LENGTH}, 8, right=SENTENCES, evaluated=COVERAGE),
    "coloring": Case("mlm", COLORED, overrides=(FEW, *DRAWN)),
    "coloring_10": Case("mlm", COLORED, overrides=(FEW, *DRAWN)),
    # Of the eight rows in one half of the test set, three are of the smaller size.
    "coloring_published": Case("mlm", rows=3, **GRAPHS),
    "coloring_10_published": Case("mlm", rows=5, **GRAPHS),
    "gsm8k": Case(
        "arlm", LENGTHS, 4, lambda: {"test_parquet": problems(4)}, overrides=(TOLD, "data.length=64", *TESTED), right=program,
        evaluated=PROGRAMS,
    ),
    "lm1b": Case(
        "arlm", {}, 4, lambda: {"train_txt": texts(6, text="page {} ."), "test_txt": texts(8, text="page {} .")},
        overrides=(TOLD,), document=7,
    ),
    "math500": Case(
        "arlm", LENGTHS, 2, lambda: {"test_jsonl": [{"problem": f"Half of {n}?", "answer": rf"\frac{n}2"} for n in (1, 3)]},
        overrides=(TOLD, *SHORT, *TESTED), right=boxed, evaluated=FORMULAS, optional=("formulas", "math_verify"),
    ),
    "owt": Case(
        "arlm", {}, 3, lambda: {"train-0_parquet": texts(6), "validation-0_parquet": texts(6)},
        overrides=(TOLD, *SHORT), document=8,
    ),
    # Of 400 pages, two are in the test split: 2 * (70 + 1) tokens.
    "owt_packed": Case(
        "mlm", {}, 5, lambda: {"part_parquet": texts(400, text="page {:065d}")}, overrides=(TOLD, "data.length=32", FEW)
    ),
    "qm9": Case(
        "arlm", LENGTH, 3, lambda: {"part_parquet": texts(120, "canonical_smiles", "CCO")}, right=MADE[:2], evaluated=MOLECULES,
        optional=RDKIT,
    ),
    "queens": Case("mlm", PEACEFUL, overrides=(FEW, "data.source.arguments.fewest=6")),
    "queens_10": Case("mlm", PEACEFUL, overrides=(FEW, "data.source.arguments.fewest=8")),
    "queens_published": Case("mlm", rows=3, **ATTACKS),
    "queens_10_published": Case("mlm", rows=5, **ATTACKS),
    "safe": Case("mdlm", LENGTH, 3, lambda: SAFE, "", SHORT, MADE[2:3], MOLECULES, RDKIT),
    "safe_bracket": Case("arlm", LENGTH, 3, lambda: SAFE, "", SHORT, MADE[3:], MOLECULES, RDKIT),
    "safe_fragment": Case(
        "arlm", LENGTHS, 4, lambda: {"fragments_csv": [FRAGMENT]}, "/fragments.csv",
        ("data.arguments.samples=4", *SHORT, *TESTED), lambda target: WHOLE, FRAGMENTS, ("molecules_fragments", "rdkit"),
    ),
    "star_easy": Case("arlm", PATH),
    "star_hard": Case("mdlm", PATH),
    "star_medium": Case("ilm", PATH),
    "sudoku": Case(
        "mlm", SUDOKU, 8, lambda: {f"{split}_csv": sudoku("quizzes", "solutions", "0") for split in (*SPLITS, "validation")},
        overrides=(FEW,),
    ),
    "sudoku_easy": Case("mlm", SUDOKU, overrides=(FEW, *DRAWN)),
    "sudoku_easy_order": Case("arlm", MOVES, overrides=DRAWN),
    "sudoku_extreme": Case(
        "mlm", SUDOKU, 4, lambda: {f"{split}_jsonl": sudoku("question", "answer", ".") for split in SPLITS}, overrides=(FEW,)
    ),
    "sudoku_hard": Case("mlm", SUDOKU, overrides=(FEW, *DRAWN)),
    "sudoku_medium": Case("mlm", SUDOKU, overrides=(FEW, *DRAWN)),
    "sudoku_medium_trajectory": Case("mlm", SUDOKU, overrides=(FEW, *DRAWN)),
    "text": Case("arlm", {}, 2, lambda: {"own_txt": texts(40)}, "/own.txt", SHORT, document=8),
    # Of 80 problems, four are held out.
    "tinygsm": Case(
        "arlm", LENGTHS, 2, lambda: {"train_parquet": problems(80)}, overrides=(TOLD, "data.length=64"), evaluated=PROGRAMS
    ),
    "uniref50": Case(
        "arlm", {}, 3, lambda: {"train_parquet": texts(6, "seq", "MKTAYIAK"), "valid_parquet": texts(6, "seq", "MKTAYIAK")},
        overrides=SHORT, right=("MKTAYIAK", "MKX"), evaluated=PROTEINS, document=8,
    ),
    # Three chains of 20 letters, of which 16 are taken: 3 * (16 + 1) tokens.
    "uniref50_packed": Case(
        "mlm", {}, 4, lambda: {"train_parquet": texts(6, "seq", "MKTAY" * 4), "valid_parquet": texts(6, "seq", "MKTAY" * 4)},
        overrides=(*SHORT, FEW), right=("MKTAYIAK", "MKX"), evaluated=PROTEINS,
    ),
}  # fmt: skip
SMALL = (
    "model.layers=1", "trainer=cpu", "trainer.precision=fp32",
    "trainer.max_steps=2", "trainer.batch_size=4", "trainer.micro_batch_size=4",
    "trainer.eval_batch_size=16", "trainer.eval_every=2", "trainer.log_every=1",
    "scheduler.warmup_steps=1", "data.workers=0", "data.processes=1",
    "data.predict.validation=2", "data.predict.test=8",
)  # fmt: skip


class EveryOther:
    """A wrapper of any family's decoder that answers rows with an even number in its place, with what is right."""

    def __init__(self, right: Callable[[str], str] | Sequence[str] | None) -> None:
        self.right = right

    @hookimpl(wrapper=True)
    def xlm_predictor(self, tokenizer):
        self.predictor = yield
        self.tokenizer = tokenizer
        return self

    def predict(self, batch, *, seed, trace=False):
        made = self.predictor.predict(batch, seed=seed, trace=trace)
        rows = made.ids.tolist()
        for place, draw in enumerate(batch["draw"].tolist()):
            if draw % 2 == 0 and (self.right or "target_ids" in batch):
                text = self.answer(draw, batch["target_ids"][place] if "target_ids" in batch else None)
                rows[place] = tokenizers.encode(self.tokenizer, [text])[0]
        return replace(made, ids=pad(rows, self.tokenizer.pad_token_id).ids)

    def answer(self, draw, target):
        if target is None:
            return self.right[draw // 2 % len(self.right)]
        text = self.tokenizer.decode(target[target != self.tokenizer.pad_token_id])
        return self.right(text) if self.right else text


@pytest.fixture(autouse=True, scope="module")
def few_candidates():
    """So that generators of Sudoku draw no more than are used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(puzzles, "BLOCK", 12)
        puzzles._block.cache_clear()
        yield
    puzzles._block.cache_clear()


def trained(name, case, copy, byte_level, folder):
    """The config and the result of a run on a small data set."""
    if case.family not in INSTALLED:
        pytest.skip(f"the family {case.family} is not installed")
    place = copy(**case.files()) if case.files else ""
    chosen = [f"family={case.family}", f"data={name}", f"model={case.family}_tiny", *SMALL, *case.chosen(place, byte_level)]
    if case.optional and find_spec(case.optional[1]):
        chosen.append(f"data.evaluators.{case.optional[0]}={{}}")
    family = families.load(case.family)
    family.register(EveryOther(case.right), "every_other")
    config = composition.check(composition.compose(chosen, [case.family]), family)
    return config, run.train(config, family, folder)


def mean(of: Callable[[Row], Iterable[float]], lines: Sequence[Row]) -> float:
    values = list(chain.from_iterable(of(line) for line in lines))
    return sum(values) / len(values)


@pytest.mark.parametrize("name", DATA)
def test_it_trains_and_is_measured_as_its_config_says(name, copy, byte_level, tmp_path, monkeypatch):
    assert name in CASES, f"the data set {name} has no case here: say how it is made small, and what its metrics are"
    case = CASES[name]
    monkeypatch.setenv("XLM_CACHE", str(tmp_path / "cache"))
    config, result = trained(name, case, copy, byte_level, tmp_path / "run")
    lines = [json.loads(line) for path in (tmp_path / "run").glob("predictions/test_*0[0-9].jsonl") for line in path.open()]
    assert [line["row"] for line in lines] == list(range(8 if config.data.layout == "lm" else case.rows))
    measured = result.metrics["test/loss"].n
    # A row of which nothing happened to be masked has no loss.
    assert measured == case.rows or (config.data.layout == "infill" and 0 < measured <= case.rows)

    assert set(lines[0]["metrics"]) == set(case.truth)
    assert bool(config.data.evaluators) == bool(case.evaluated) or case.optional is not None
    for metric, of in {**case.truth, **(case.evaluated if config.data.evaluators else {})}.items():
        found = result.metrics[f"test/{metric}"]
        assert found.value == pytest.approx(mean(of, lines)), metric
        assert found.value > 0, metric
        assert found.n == len(lines), metric
    if case.document:
        bits = {unit: result.metrics[f"test/bits_per_{unit}"].value for unit in ("byte", "token")}
        assert bits["byte"] == pytest.approx(bits["token"] * (case.document + 1) / case.document)

    if "train" in config.data.splits:
        with (tmp_path / "run" / "metrics.csv").open() as file:
            steps = {(row["metric"], row["step"]): float(row["value"]) for row in csv.DictReader(file)}
        assert steps["train/loss", "1"] != steps["train/loss", "2"]
        assert {f"validation/{metric}" for metric in ("loss", *case.truth)} <= {metric for metric, step in steps if step == "2"}


def test_no_case_is_of_a_set_that_is_gone():
    assert set(CASES) <= set(DATA)
