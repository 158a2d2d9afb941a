"""Whether answers in LaTeX mean what the targets mean, as math-verify reads them: MATH-500."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from xlm_core.errors import ConfigError
from xlm_core.evaluation import evaluators
from xlm_core.evaluation.evaluators import Row
from xlm_core.evaluation.statistics import Estimate, mean
from xlm_core.sandbox.worker import Died, Worker


class Formulas:
    """Reads each text and each target with math-verify and compares them, in the limited process of `xlm_core.sandbox`.

    Metrics, each with Wilson's interval:

    * `math_accuracy`: the share of rows whose text means the target, of those whose target can be read.
    * `math_gold`: the share whose target can be read.
    * `math_parses`: the share in whose text an answer can be read.
    * `math_killed`: the share for which the process had to be ended, because it took too long or too much. They are not right.

    Args:
        stop: where a text ends: the network went on to a problem of its own. None for nowhere.
        seconds, megabytes: that the process may take for a row.

    Raises:
        ConfigError: math-verify is not installed, or processes cannot be limited here.
    """

    def __init__(self, stop: str | None = "Problem:", seconds: float = 10.0, megabytes: int = 2048) -> None:
        evaluators.needs("math_verify", "math")
        self.stop = stop
        self.worker = Worker("xlm_core.sandbox.formulas", path=sys.path, seconds=seconds, megabytes=megabytes)

    def score(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """`math_answer` and `math_gold`: as what they were read, or None; `math_correct`, 0 or 1, or None without gold;
        `math_killed`, 0 or 1."""
        if any("target" not in row for row in rows):
            raise ConfigError("formulas are compared with the target, and the predictions have no targets")
        with self.worker as worker:
            return [self._one(worker, row) for row in rows]

    def summarise(self, rows: Sequence[Row]) -> dict[str, Estimate]:
        columns = {
            "math_accuracy": [row["math_correct"] for row in rows],
            "math_gold": [float(row["math_correct"] is not None) for row in rows],
            "math_parses": [float(row["math_answer"] is not None) for row in rows],
            "math_killed": [row["math_killed"] for row in rows],
        }
        return {name: known for name, values in columns.items() if (known := mean(values)) is not None}

    def _one(self, worker: Worker, row: Row) -> dict[str, Any]:
        text = row["text"] if self.stop is None else row["text"].partition(self.stop)[0]
        try:
            found = worker.ask({"text": text, "gold": row["target"]})
        except Died:
            return {"math_answer": None, "math_gold": None, "math_correct": 0.0, "math_killed": 1.0}
        correct = None if found["gold"] is None else float(found["correct"])
        return {"math_answer": found["answer"], "math_gold": found["gold"], "math_correct": correct, "math_killed": 0.0}


evaluator = Formulas
