"""Running the checks and saying what came out of each. Needs no pytest."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from xlm_core.testing.building import Built, NotApplicable
from xlm_core.testing.checks import CHECKS, Check
from xlm_core.testing.packaging import parts_build

Status = Literal["ok", "failed", "expected failure", "not applicable"]
UNBUILT = "the parts of the family do not build"


@dataclass(frozen=True)
class Outcome:
    """What came out of a check."""

    check: str
    status: Status
    reason: str = ""
    seconds: float = 0.0
    error: Exception | None = field(default=None, compare=False)
    """What the check raised."""

    def __str__(self) -> str:
        return f"{self.check:28}{self.status}{': ' if self.reason else ''}{self.reason}"


def judge(check: Check, built: Built) -> Outcome:
    """Run one check, and hold what comes out against what the family declares."""
    name, start = check.__name__, time.perf_counter()
    status, reason, error = _outcome(check, built)
    expected = built.declared.expected_failures.get(name)
    if expected is not None and status == "failed":
        status, reason, error = "expected failure", f"{expected} ({reason})", None
    elif expected is not None:
        status, reason = "failed", f"declared to fail because {expected!r}, it is {status}: take it out of expected_failures"
    return Outcome(name, status, reason, round(time.perf_counter() - start, 2), error)


def _outcome(check: Check, built: Built) -> tuple[Status, str, Exception | None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a family says of unusual rows is not about the check
            check(built)
    except NotApplicable as error:
        return "not applicable", str(error), None
    except AssertionError as error:
        return "failed", str(error) or "an assertion without a message", error
    except Exception as error:
        return "failed", f"{type(error).__name__}: {' '.join(str(error).split())}", error
    return "ok", "", None


def run(built: Built) -> Iterator[Outcome]:
    """All checks, in order. Where the parts do not build, what needs them is left out."""
    unknown = unknown_expectations(built)
    if unknown:
        yield Outcome("expected_failures", "failed", f"there is no check {', '.join(map(repr, unknown))}")
    builds = True
    for check in CHECKS:
        if not builds:
            yield Outcome(check.__name__, "not applicable", UNBUILT)
            continue
        outcome = judge(check, built)
        builds = check is not parts_build or outcome.status == "ok"
        yield outcome


def unknown_expectations(built: Built) -> list[str]:
    """Declared failures of checks that there are not."""
    return sorted(set(built.declared.expected_failures) - {check.__name__ for check in CHECKS})
