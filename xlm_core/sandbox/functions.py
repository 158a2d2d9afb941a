"""The functions that a program finds: Python's own on data, and those of `math`. Each pays for what it does."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cmp_to_key
from typing import Any

from xlm_core.sandbox.budget import BITS, Spent
from xlm_core.sandbox.operations import Operations, Stream

Call = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Native:
    """A function of this file, as a value of a program."""

    name: str
    function: Call
    kind: type | None = None
    """The type that it makes, for isinstance."""


NAMES = "abs all any divmod enumerate filter isinstance iter len map max min next pow print range reversed round sorted sum zip"
OF_NUMBERS = """
acos asin atan atan2 ceil copysign cos degrees dist exp fabs floor fmod hypot isclose isfinite isinf isnan isqrt log log10 log1p
log2 pow radians sin sqrt tan trunc
"""
"""Functions of `math` whose cost does not depend on their arguments, which are numbers."""
CONSTANTS = {"pi": math.pi, "e": math.e, "tau": math.tau, "inf": math.inf, "nan": math.nan}


class Library:
    """The functions, with the operations and the budget of one program.

    Args:
        do: its operators.
        call: calls a value of the program with arguments.
    """

    def __init__(self, do: Operations, call: Call) -> None:
        self.do = do
        self.budget = do.budget
        self.call = call

    def builtins(self) -> dict[str, Native]:
        kinds = {"bool": bool, "dict": dict, "float": float, "int": int, "list": list, "set": set, "str": str, "tuple": tuple}
        return {name: Native(name, getattr(self, f"_{name}"), kinds.get(name)) for name in (*NAMES.split(), *kinds)}

    def math(self) -> dict[str, Any]:
        own = {name: getattr(self, f"_{name}") for name in ("comb", "factorial", "fsum", "gcd", "lcm", "perm", "prod")}
        found = own | {name: self._of_numbers(getattr(math, name)) for name in OF_NUMBERS.split()}
        return CONSTANTS | {name: Native(f"math.{name}", function) for name, function in found.items()}

    def data(self, value: Any) -> list[Any]:
        """The parts of what is looped over, measured: ready to be compared or hashed."""
        items = list(self.do.items(value))
        for item in items:
            self.budget.measure(item)
        return items

    def ordered(self, value: Any, key: Any = None, reverse: Any = False) -> list[Any]:
        """sorted()"""
        pairs = [(item if key is None else self.call(key, item), item) for item in self.do.items(value)]

        def order(one: tuple[Any, Any], other: tuple[Any, Any]) -> int:
            return -int(self.do.compare(ast.Lt, one[0], other[0]))  # sort asks nothing else

        pairs.sort(key=cmp_to_key(order), reverse=bool(reverse))
        return [item for _, item in pairs]

    def _extreme(self, kind: type[ast.cmpop], values: tuple[Any, ...], key: Any, default: tuple[Any, ...]) -> Any:
        found: list[tuple[Any, Any]] = []
        for item in self.do.items(values[0] if len(values) == 1 else values):
            rank = item if key is None else self.call(key, item)
            if not found or self.do.compare(kind, rank, found[0][0]):
                found = [(rank, item)]
        if found:
            return found[0][1]
        if not default:
            raise ValueError("the largest or smallest of nothing")
        return default[0]

    def _min(self, *values: Any, key: Any = None, **default: Any) -> Any:
        return self._extreme(ast.Lt, values, key, _only(default, "default"))

    def _max(self, *values: Any, key: Any = None, **default: Any) -> Any:
        return self._extreme(ast.Gt, values, key, _only(default, "default"))

    def _sum(self, values: Any, start: Any = 0) -> Any:
        if isinstance(start, str):
            raise TypeError("a sum of texts")
        for value in self.do.items(values):
            start = self.do.binary(ast.Add, start, value)
        return start

    def _prod(self, values: Any, *, start: Any = 1) -> Any:
        for value in self.do.items(values):
            start = self.do.binary(ast.Mult, start, value)
        return start

    def _fsum(self, values: Any) -> float:
        return math.fsum(self.data(values))

    def _abs(self, value: Any) -> Any:
        self.budget.measure(value)
        return abs(value)

    def _all(self, values: Any) -> bool:
        return all(self.do.items(values))

    def _any(self, values: Any) -> bool:
        return any(self.do.items(values))

    def _divmod(self, one: Any, other: Any) -> Any:
        return self.do.binary(ast.FloorDiv, one, other), self.do.binary(ast.Mod, one, other)

    def _pow(self, base: Any, exponent: Any, modulus: Any = None) -> Any:
        if modulus is None:
            return self.do.binary(ast.Pow, base, exponent)
        for value in (base, exponent, modulus):
            if not isinstance(value, int):
                raise TypeError("pow with a modulus takes whole numbers")
        self.budget.spend(exponent.bit_length() * (1 + (modulus.bit_length() // 256) ** 2))
        return pow(base, exponent, modulus)

    def _round(self, value: Any, digits: Any = None) -> Any:
        self.budget.measure(value)
        if digits is not None and abs(digits) > BITS:
            raise Spent("a number rounded to so many digits")
        return self.do.number(round(value, digits))

    def _len(self, value: Any) -> int:
        if type(value) is Stream:
            raise TypeError("a stream has no length")
        return len(value)

    def _range(self, *bounds: Any) -> range:
        return range(*bounds)

    def _enumerate(self, values: Any, start: int = 0) -> Stream:
        return Stream(enumerate(self.do.items(values), start))

    def _zip(self, *values: Any, strict: bool = False) -> Stream:
        return Stream(zip(*map(self.do.items, values), strict=strict))

    def _map(self, function: Any, *values: Any) -> Stream:
        return Stream(self.call(function, *each) for each in zip(*map(self.do.items, values), strict=False))

    def _filter(self, function: Any, values: Any) -> Stream:
        return Stream(item for item in self.do.items(values) if (item if function is None else self.call(function, item)))

    def _reversed(self, values: Any) -> Stream:
        if type(values) not in (list, tuple, str, range, dict):
            raise TypeError(f"{type(values).__name__} cannot be reversed")
        return Stream(iter(reversed(values)))

    def _sorted(self, values: Any, *, key: Any = None, reverse: Any = False) -> list[Any]:
        return self.ordered(values, key, reverse)

    def _iter(self, values: Any) -> Stream:
        return values if type(values) is Stream else Stream(self.do.items(values))

    def _next(self, stream: Any, *default: Any) -> Any:
        if type(stream) is not Stream:
            raise TypeError(f"{type(stream).__name__} is no stream")
        for item in self.do.items(stream):
            return item
        if not default:
            raise ValueError("a stream that is at its end")
        return default[0]

    def _print(self, *values: Any, **options: Any) -> None:
        """Nobody reads it."""

    def _isinstance(self, value: Any, kinds: Any) -> bool:
        kinds = kinds if type(kinds) is tuple else (kinds,)
        if not all(isinstance(kind, Native) and kind.kind for kind in kinds):
            raise TypeError("isinstance takes the types of data")
        return isinstance(value, tuple(kind.kind for kind in kinds))

    def _bool(self, value: Any = False) -> bool:
        return bool(value)

    def _int(self, value: Any = 0) -> int:
        self.budget.measure(value)
        return int(self.do.number(int(value)))

    def _float(self, value: Any = 0.0) -> float:
        self.budget.measure(value)
        return float(value)

    def _str(self, value: Any = "") -> str:
        return self.do.text(value)

    def _list(self, values: Any = ()) -> list[Any]:
        return list(self.do.items(values))

    def _tuple(self, values: Any = ()) -> tuple[Any, ...]:
        return tuple(self.do.items(values))

    def _set(self, values: Any = ()) -> set[Any]:
        return set(self.data(values))

    def _dict(self, values: Any = (), **named: Any) -> dict[Any, Any]:
        if type(values) is dict:
            self.budget.spend(len(values))
            return {**values, **named}
        return {**dict(map(self.data, self.do.items(values))), **named}

    def _of_numbers(self, function: Call) -> Call:
        def checked(*arguments: Any, **options: Any) -> Any:
            for argument in (*arguments, *options.values()):
                self.budget.measure(argument)
            return self.do.number(function(*arguments, **options))

        return checked

    def _factorial(self, n: Any) -> int:
        return self._perm(n, n)

    def _comb(self, n: Any, k: Any) -> int:
        self._products(n, min(k, n - k))
        return int(self.do.number(math.comb(n, k)))

    def _perm(self, n: Any, k: Any = None) -> int:
        self._products(n, n if k is None else k)
        return int(self.do.number(math.perm(n, k)))

    def _products(self, n: Any, k: Any) -> None:
        """Ask before k numbers up to n are multiplied."""
        if not isinstance(n, int):
            raise TypeError("whole numbers are counted")
        self.budget.spend(max(0, k))
        self.budget.bits(n.bit_length() * max(0, min(n, k)) // 2)

    def _gcd(self, *values: Any) -> int:
        self.data(values)
        return math.gcd(*values)

    def _lcm(self, *values: Any) -> int:
        found = 1
        for value in self.data(values):
            found = self.do.number(math.lcm(found, value))
        return found


def _only(named: dict[str, Any], name: str) -> tuple[Any, ...]:
    """The one argument that may be named here, if it is."""
    if set(named) - {name}:
        raise TypeError(f"unknown arguments: {', '.join(named)}")
    return tuple(named.values())
