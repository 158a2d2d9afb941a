"""Python's operators on the data of a program, each after its cost was paid."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

from xlm_core.sandbox.budget import BITS, Budget, Refused, Spent

Operator = Callable[[Any, Any], Any]

BINARY: dict[type[ast.operator], Operator] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.BitAnd: operator.and_,
}
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Invert: operator.invert,
    ast.Not: operator.not_,
}
COMPARED: dict[type[ast.cmpop], Operator] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
SEQUENCES = (str, list, tuple)
DATA = (*SEQUENCES, set, dict, range)
CONVERSIONS: dict[int, Callable[[Any], str]] = {ord("r"): repr, ord("a"): ascii, ord("s"): str}
WIDEST = 100
"""The widest that an f-string makes a value, and the most digits that it prints."""


class Stream:
    """Values that are made one by one: what generator expressions, map and zip give."""

    def __init__(self, values: Iterator[Any]) -> None:
        self.values = values


class Operations:
    """Operators with a budget. Operands are data: they have no method that a program wrote."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    def items(self, value: Any) -> Iterator[Any]:
        """The parts of anything that can be looped over, each a step."""
        if type(value) is not Stream and type(value) not in DATA:
            raise TypeError(f"{type(value).__name__} is nothing to loop over")
        for item in value.values if type(value) is Stream else value:
            self.budget.spend()
            yield item

    def binary(self, kind: type[ast.operator], left: Any, right: Any) -> Any:
        if kind not in BINARY:
            raise Refused(kind.__name__)
        if isinstance(left, int) and isinstance(right, int):
            self._whole(kind, left, right)
        else:
            self._other(kind, left, right)
        return self.number(BINARY[kind](left, right))

    def unary(self, kind: type[ast.unaryop], value: Any) -> Any:
        if kind is not ast.Not:
            self.budget.measure(value)
        return UNARY[kind](value)

    def compare(self, kind: type[ast.cmpop], left: Any, right: Any) -> bool:
        if kind in (ast.In, ast.NotIn):
            return self.contains(right, left) is (kind is ast.In)
        if kind not in (ast.Is, ast.IsNot):
            self.budget.measure(left)
            self.budget.measure(right)
        return bool(COMPARED[kind](left, right))

    def contains(self, container: Any, value: Any) -> bool:
        self.budget.measure(value)
        if type(container) is Stream or (type(container) is range and type(value) is not int):
            return any(item == value for item in self.items(container))
        if type(container) in (str, list, tuple):
            self.budget.measure(container)
        elif type(container) not in DATA:
            raise TypeError(f"{type(container).__name__} holds nothing")
        return value in container

    def part(self, value: Any, index: Any) -> Any:
        """value[index]"""
        if type(value) not in DATA:
            raise TypeError(f"{type(value).__name__} has no parts")
        if type(index) is slice:
            self.budget.spend(len(value) if type(value) in SEQUENCES else 1)
        else:
            self.budget.measure(index)
        return value[index]

    def number(self, value: Any) -> Any:
        """A result, if it is one that the language has."""
        if type(value) is int:
            self.budget.bits(value.bit_length())
        elif type(value) is complex:
            raise ValueError("a root of a negative number")
        return value

    def text(self, value: Any, conversion: int = -1, spec: str = "") -> str:
        """As an f-string prints it. `conversion` is the code of s, r or a, or -1."""
        self.budget.measure(value)
        made = CONVERSIONS[conversion](value) if conversion in CONVERSIONS else value
        numbers = "".join(c if c.isdigit() else " " for c in spec).split()
        if len(spec) > 20 or any(int(number) > WIDEST for number in numbers):
            raise Spent(f"a value printed wider than {WIDEST}")
        return format(made, spec) if spec else str(made)

    def _whole(self, kind: type[ast.operator], left: int, right: int) -> None:
        """Whole numbers: how large will the result be?"""
        if kind is ast.Pow and abs(left) > 1:
            self.budget.bits(int(math.log2(abs(left)) * min(right, BITS + 1)))
        elif kind is ast.LShift:
            self.budget.bits(left.bit_length() + max(0, right))

    def _other(self, kind: type[ast.operator], left: Any, right: Any) -> None:
        """Anything else: texts and lists that are repeated or joined, sets, numbers with a point."""
        if kind is ast.Mod and isinstance(left, str):
            raise Refused("% on a text")
        if kind is ast.Mult and isinstance(right, SEQUENCES):
            left, right = right, left
        if kind is ast.Mult and isinstance(left, SEQUENCES) and isinstance(right, int):
            self.budget.spend(len(left) * max(0, right))
            return
        for value in (left, right):
            if type(value) not in (int, float, bool, *DATA):
                raise TypeError(f"{kind.__name__} of {type(left).__name__} and {type(right).__name__}")
            self.budget.spend(len(value) if type(value) in (*SEQUENCES, set, dict) else 1)
