"""Problems to prompts, answers to targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from xlm_core.tasks.math.shots import SHOTS

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer


def prompt(problem: str) -> str:
    """The worked problems, then this one, up to where its answer begins."""
    worked = [f"Problem: {shot.problem}\nAnswer: {shot.solution}" for shot in SHOTS]
    return "\n\n".join([*worked, f"Problem: {problem.strip()}\nAnswer:"])


def preprocess(rows: Mapping[str, Sequence[str]], tokenizer: Tokenizer) -> dict[str, list[list[int]]]:
    """The prompt is four worked problems and the question, the target its answer without the way there.

    Args:
        rows: `problem` and `answer`.
        tokenizer: turns text into ids.
    """
    from xlm_core.data.tokenizers import encode

    return {
        "prompt_ids": encode(tokenizer, [prompt(problem) for problem in rows["problem"]]),
        "input_ids": encode(tokenizer, [answer.strip() for answer in rows["answer"]]),
    }
