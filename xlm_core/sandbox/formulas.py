"""Compare an answer in LaTeX with the right one, by math-verify. This is what the limited process does with a formula."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import sys
from importlib.abc import MetaPathFinder
from typing import Any

USED = (
    "calculus",
    "combinatorics",
    "concrete",
    "integrals",
    "matrices",
    "sets",
    "simplify",
    "solvers",
    "tensor",
    "physics.units",
)
"""Parts of SymPy whose modules are loaded when something in a formula first needs them."""
PACKAGES = ("sympy", "mpmath", "latex2sympy2_extended", "math_verify")


class Late(MetaPathFinder):
    """Notes the modules that are asked for when no file can be read any more."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in PACKAGES:
            self.asked.append(name)


LATE = Late()


def prepare() -> None:
    """Load all that reading and comparing need: afterwards no file can be opened."""
    logging.disable()  # math-verify warns that it has no alarm: the process has
    for part in USED:
        package = importlib.import_module(f"sympy.{part}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not {"tests", "benchmarks"} & set(module.name.split(".")):
                importlib.import_module(module.name)
    answer({"text": r"so it is $\frac{1}{2} + \sqrt{x}$", "gold": r"\frac{2}{4} + \sqrt{x}"})
    answer({"text": r"\boxed{(1, 2] \cup \{3\}}, or 3.5 and 10\%", "gold": r"\begin{pmatrix} 1 \\ x^2 \end{pmatrix}"})
    answer({"text": r"\boxed{\int_0^1 \sin x dx < 3}", "gold": r"x^2 + 1 = 3"})
    sys.meta_path.insert(0, LATE)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Args: `text`, and `gold`, a formula without dollars.

    Returns:
        `correct`, and as what the two were read: `answer` and `gold`, None where nothing could be read.

    Raises:
        ImportError: something was not loaded. math-verify would take that for two formulas that differ.
    """
    from math_verify import parse, verify

    gold = parse(f"${request['gold']}$", parsing_timeout=None)
    found = parse(request["text"], parsing_timeout=None)
    correct = bool(gold and found and verify(gold, found, timeout_seconds=None))
    if LATE.asked:
        raise ImportError(f"{LATE.asked} should have been loaded before")
    return {"correct": correct, "answer": _shown(found), "gold": _shown(gold)}


def _shown(read: list[Any]) -> str | None:
    """math-verify gives what it read and, last, the text that it read it from."""
    return str(read[-1])[:200] if read else None
