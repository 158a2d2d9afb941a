"""Problems of a split, and how they become ids. Candidate i of a split is a function of (seed, split, i)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from xlm_core.errors import ConfigError
from xlm_core.tasks.arithmetic.stories import CHANGES, QUESTIONS, Story, sells, total
from xlm_core.tasks.splits import Columns, distinct

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer

BLOCK = 1000
"""Candidates that are drawn from one generator after the other."""


def problem(rng: np.random.Generator, operations: int) -> tuple[str, str, str]:
    """Question, program and answer of a problem with so many sentences that calculate."""
    story = Story.begin(rng)
    asked = QUESTIONS[rng.integers(len(QUESTIONS))]
    for _ in range(operations - (asked is not total)):
        CHANGES[rng.integers(len(CHANGES))](story)
    hundredths = asked(story)
    whole, rest = divmod(hundredths, 100)
    head = f"def simple_math_problem() -> {'float' if asked is sells else 'int'}:"
    code = "\n    ".join([head, *story.lines, "return result"])
    return " ".join(story.sentences), code, f"{whole}.{rest:02d}" if rest else str(whole)


def generate(
    split: str, *, operations: int = 4, train: int = 50_000, validation: int = 500, test: int = 1_000, seed: int = 42
) -> dict[str, pa.Array]:
    """Problems of a split, as columns. No question is asked twice, in whatever splits.

    Args:
        split: train, validation or test.
        operations: most sentences that calculate. How many a problem has is uniform on 1 .. operations.
        train, validation, test: how many problems each split has.
        seed: of all splits.

    Returns:
        `question`; `code`, a function `simple_math_problem` without arguments that returns the answer; and `answer`, the number
        as GSM8K writes it, "#### 12" or "#### 3.50".
    """
    if operations < 1:
        raise ConfigError(f"a problem cannot have {operations} operations", "operations is at least 1.")
    sizes = {"train": train, "validation": validation, "test": test}
    rows = distinct(split, sizes, partial(_block, operations, seed), lambda rows: list(rows["question"]))
    return {name: pa.array(values) for name, values in rows.items()}


def preprocess(rows: Mapping[str, Sequence[str]], tokenizer: Tokenizer) -> dict[str, list[list[int]]]:
    """The prompt is the question and a line's end, the target the program.

    Args:
        rows: `question` and `code`, also those of TinyGSM itself.
        tokenizer: turns text into ids. The two are cut into tokens apart.
    """
    from xlm_core.data.tokenizers import encode

    (newline,) = encode(tokenizer, ["\n"])
    questions = encode(tokenizer, [question.strip() for question in rows["question"]])
    return {
        "prompt_ids": [ids + newline for ids in questions],
        "input_ids": encode(tokenizer, [code.strip() for code in rows["code"]]),
    }


def _block(operations: int, seed: int, split: int, block: int) -> Columns:
    rng = np.random.default_rng([seed, split, block])
    made = [problem(rng, 1 + int(rng.integers(operations))) for _ in range(BLOCK)]
    question, code, answer = zip(*made, strict=True)
    solution = [f"#### {number}" for number in answer]
    return {name: np.array(texts, object) for name, texts in (("question", question), ("code", code), ("answer", solution))}
