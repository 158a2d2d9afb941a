"""Find the program in what a network wrote, and run it. This is what the limited process does with a text."""

from __future__ import annotations

import ast
import math
import re
from typing import Any

from xlm_core.sandbox.budget import Refused, Spent
from xlm_core.sandbox.interpreter import Interpreter

ENDS = re.compile(r"<\|endoftext\|>|<\|eot_id\|>|</s>")
FENCED = re.compile(r"```[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
BEGINNING = re.compile(r"^(?:def |import \w|from \w+ import )", re.MULTILINE)
NUMBER = re.compile(r"-?(?:\d+(?:\.\d+)?|\.\d+)")
DROPPED = 49
"""Most lines that are cut off the end of a program until it can be parsed."""
WHOLE = 1e-6
"""How near to a whole number a result counts as it."""

FAILURES = ("no_program", "syntax", "refused", "raised", "spent", "no_number", "killed")
"""Why there is no number: the text holds no program; it cannot be parsed; it uses what the language does not have; it raised an
error; it used too many steps, too much memory or too large numbers; it returned something else; the process had to be ended."""


class NoProgram(Exception):
    """The text defines no function."""


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Args: `text`; `function`, which is called; `steps`, that it may take.

    Returns:
        `value`, a finite number, or None; then `failure`, one of FAILURES, and `detail`, what it was.
    """
    try:
        program = parse(extract(request["text"]))
        value = number(Interpreter(request["steps"]).run(program, request["function"]))
    except NoProgram as error:
        return _failed("no_program", error)
    except SyntaxError as error:
        return _failed("syntax", error)
    except Refused as error:
        return _failed("refused", error)
    except (Spent, MemoryError, RecursionError) as error:
        return _failed("spent", error)
    except Exception as error:
        return _failed("raised", error)
    return {"value": value, "failure": None if value is not None else "no_number"}


def extract(text: str) -> str:
    """The program in a text: up to an end mark, inside the first fence if there is one, from the first line that begins one.

    Raises:
        NoProgram: there is none.
    """
    text = ENDS.split(text, maxsplit=1)[0]
    fenced = FENCED.search(text)
    text = fenced[1] if fenced else text
    beginning = BEGINNING.search(text)
    if beginning is None:
        raise NoProgram("no function is defined")
    return text[beginning.start() :]


def parse(source: str) -> ast.Module:
    """The tree of a program, without the lines at its end that are no program.

    Raises:
        SyntaxError: there is no such tree.
    """
    lines = source.splitlines()
    found = ""
    for dropped in range(min(DROPPED + 1, len(lines))):
        try:
            return ast.parse("\n".join(lines[: len(lines) - dropped]))
        except (SyntaxError, ValueError) as error:
            found = found or str(error)
    raise SyntaxError(found)


def number(value: Any) -> int | float | None:
    """A result as a number: of a text the first that is in it, without commas; whole where it is nearly so."""
    if isinstance(value, str):
        found = NUMBER.search(value.replace(",", ""))
        value = None if found is None else (float if "." in found[0] else int)(found[0])
    if type(value) is float and math.isfinite(value):
        return round(value) if abs(value - round(value)) <= WHOLE else value
    return value if type(value) is int else None


def _failed(failure: str, error: BaseException) -> dict[str, Any]:
    return {"value": None, "failure": failure, "detail": f"{type(error).__name__}: {error}"[:200]}
