"""Whether the programs that a network wrote give the right numbers: GSM8K, TinyGSM and arithmetic."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from xlm_core.errors import ConfigError
from xlm_core.evaluation.evaluators import Row
from xlm_core.evaluation.statistics import Estimate, mean
from xlm_core.sandbox.programs import FAILURES, NUMBER
from xlm_core.sandbox.worker import Died, Worker

NEAR = 1e-3
"""How far a result with decimals may be from the right one."""


class Programs:
    """Runs each text's program, and each target that is a program, as `xlm_core.sandbox` runs them.

    Metrics, each with Wilson's interval:

    * `code_accuracy`: the share of rows whose program gives the target's number, of those whose target has one.
    * `code_gold`: the share whose target has one. Where it is a program that was cut, it has none.
    * `code_parses`, `code_runs`: the share whose program can be parsed, and that gives a number, right or wrong.
    * `code_failed_*`: the share that gives none, by why: see `xlm_core.sandbox.programs.FAILURES`.

    Args:
        function: that is called, without arguments.
        steps: that a program may take, about one for each operator, name and number that it evaluates.
        seconds, megabytes: that the process may take for a program. Programs run out of steps first, which is the same on every
            machine.

    Raises:
        ConfigError: processes cannot be limited here.
    """

    def __init__(
        self, function: str = "simple_math_problem", steps: int = 200_000, seconds: float = 10.0, megabytes: int = 512
    ) -> None:
        self.function, self.steps = function, steps
        self.worker = Worker("xlm_core.sandbox.programs", seconds=seconds, megabytes=megabytes)

    def score(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """`code_value` and `code_gold`, numbers or None; `code_correct`, 0 or 1, or None without gold; `code_failure` and
        `code_detail`, why there is no value."""
        if any("target" not in row for row in rows):
            raise ConfigError("programs are compared with the target's number, and the predictions have no targets")
        with self.worker as worker:
            return [self._one(worker, row) for row in rows]

    def summarise(self, rows: Sequence[Row]) -> dict[str, Estimate]:
        why = [row["code_failure"] for row in rows]
        columns = {
            "code_accuracy": [row["code_correct"] for row in rows],
            "code_gold": [float(row["code_gold"] is not None) for row in rows],
            "code_parses": [float(failure not in ("no_program", "syntax")) for failure in why],
            "code_runs": [float(failure is None) for failure in why],
            **{f"code_failed_{name}": [float(failure == name) for failure in why] for name in FAILURES},
        }
        return {name: known for name, values in columns.items() if (known := mean(values)) is not None}

    def _one(self, worker: Worker, row: Row) -> dict[str, Any]:
        found, gold = self._run(worker, row["text"]), self._gold(worker, row["target"])
        correct = None if gold is None else float(same(found["value"], gold))
        failure, detail = found["failure"], found.get("detail")
        return {
            "code_value": found["value"],
            "code_gold": gold,
            "code_correct": correct,
            "code_failure": failure,
            "code_detail": detail,
        }

    def _gold(self, worker: Worker, target: str) -> int | float | None:
        number = target.strip()
        if re.fullmatch(NUMBER, number):
            return float(number) if "." in number else int(number)
        value: int | float | None = self._run(worker, target)["value"]
        return value

    def _run(self, worker: Worker, text: str) -> dict[str, Any]:
        try:
            return worker.ask({"text": text, "function": self.function, "steps": self.steps})
        except Died as error:
            return {"value": None, "failure": "killed", "detail": str(error)}


evaluator = Programs


def same(value: int | float | None, gold: int | float) -> bool:
    """Whether a result is the right one: whole numbers exactly, others to a thousandth."""
    if value is None or (isinstance(value, int) and isinstance(gold, int)):
        return value == gold
    try:
        return abs(value - gold) <= NEAR
    except OverflowError:  # a whole number that no float is near
        return False
