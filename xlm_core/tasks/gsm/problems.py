"""Questions with programs, or with the numbers that are their answers, to ids."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from xlm_core.errors import DataError
from xlm_core.tasks.arithmetic import preprocess

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer

__all__ = ["number", "preprocess", "preprocess_answers"]

NUMBER = re.compile(r"(?:(?<!\d)-)?(?:\d+(?:\.\d+)?|\.\d+)")


def preprocess_answers(rows: Mapping[str, Sequence[str]], tokenizer: Tokenizer) -> dict[str, list[list[int]]]:
    """The prompt is the one of `preprocess`; the target is not the program, which there is none of, but its result in digits.

    Args:
        rows: `question`, and `answer`: the solution in words that GSM8K gives.
        tokenizer: turns text into ids.
    """
    return preprocess({"question": rows["question"], "code": [number(answer) for answer in rows["answer"]]}, tokenizer)


def number(answer: str) -> str:
    """The number behind the last `####` of a solution, or else the last number in it, without commas between its digits.

    Raises:
        DataError: there is no number.
    """
    _, mark, marked = answer.rpartition("####")
    found = NUMBER.findall(re.sub(r"(?<=\d),(?=\d)", "", marked))
    if not found:
        raise DataError(f"the answer {answer!r} has no number", "GSM8K ends each with #### and the number.")
    return str(found[0] if mark else found[-1])
