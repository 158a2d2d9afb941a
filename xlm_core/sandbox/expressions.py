"""Expressions of a program: one function for each kind of node that there is."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from xlm_core.sandbox.budget import CALLS, Budget, Refused, Spent
from xlm_core.sandbox.functions import Library, Native
from xlm_core.sandbox.methods import method
from xlm_core.sandbox.operations import Operations, Stream

MATH = object()
"""The module `math`, as a value."""


@dataclass
class Scope:
    """The names of a function, or of the program."""

    outer: Scope | None
    own: frozenset[str] = frozenset()
    """Names that are given a value somewhere in the function, and so are never looked for further out."""
    values: dict[str, Any] = field(default_factory=dict)

    def find(self, name: str) -> Any:
        if name in self.values:
            return self.values[name]
        if name in self.own or self.outer is None:
            raise NameError(f"name {name!r} has no value")
        return self.outer.find(name)


@dataclass(frozen=True, eq=False)
class Function:
    """A `def` or a `lambda` of the program."""

    names: tuple[str, ...]
    defaults: tuple[Any, ...]
    own: frozenset[str]
    body: Callable[[Scope], Any]
    scope: Scope

    def bind(self, given: tuple[Any, ...], named: dict[str, Any]) -> Scope:
        """The scope of a call.

        Raises:
            TypeError: the arguments do not fit.
        """
        values = dict(zip(self.names[len(self.names) - len(self.defaults) :], self.defaults, strict=True))
        if len(given) > len(self.names) or set(named) - set(self.names[len(given) :]):
            raise TypeError("arguments that the function does not take")
        values |= dict(zip(self.names, given, strict=False)) | named
        if len(values) < len(self.names):
            raise TypeError("arguments that the function needs are missing")
        return Scope(self.scope, self.own, values)


class Expressions:
    """Evaluates syntax trees, a step a node.

    Args:
        budget: of the whole program.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.do = Operations(budget)
        self.library = Library(self.do, self.call)
        self.math = self.library.math()
        self.calls = 0
        self.kinds: dict[type[ast.expr], Callable[[Any, Scope], Any]] = {
            ast.Constant: self._constant,
            ast.Name: lambda node, scope: scope.find(node.id),
            ast.BinOp: lambda node, scope: self.do.binary(
                type(node.op), self.value(node.left, scope), self.value(node.right, scope)
            ),
            ast.UnaryOp: lambda node, scope: self.do.unary(type(node.op), self.value(node.operand, scope)),
            ast.BoolOp: self._logic,
            ast.Compare: self._compare,
            ast.IfExp: lambda node, scope: self.value(node.body if self.value(node.test, scope) else node.orelse, scope),
            ast.Call: self._call,
            ast.Attribute: self._attribute,
            ast.Subscript: lambda node, scope: self.do.part(self.value(node.value, scope), self.value(node.slice, scope)),
            ast.Slice: lambda node, scope: slice(
                *(part and self.value(part, scope) for part in (node.lower, node.upper, node.step))
            ),
            ast.List: lambda node, scope: self.values(node.elts, scope),
            ast.Tuple: lambda node, scope: tuple(self.values(node.elts, scope)),
            ast.Set: lambda node, scope: set(self.library.data(self.values(node.elts, scope))),
            ast.Dict: self._dict,
            ast.ListComp: lambda node, scope: list(self._each(node, scope)),
            ast.SetComp: lambda node, scope: set(self.library.data(Stream(self._each(node, scope)))),
            ast.DictComp: self._dict_comprehension,
            ast.GeneratorExp: lambda node, scope: Stream(self._each(node, scope)),
            ast.Lambda: self._lambda,
            ast.JoinedStr: self._text,
        }

    def value(self, node: ast.expr, scope: Scope) -> Any:
        """What an expression gives."""
        self.budget.spend()
        kind = self.kinds.get(type(node))
        if kind is None:
            raise Refused(type(node).__name__)
        return kind(node, scope)

    def values(self, nodes: list[ast.expr], scope: Scope) -> list[Any]:
        """Of a list of expressions, of which some may be *parts."""
        found: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                found += self.do.items(self.value(node.value, scope))
            else:
                found.append(self.value(node, scope))
        return found

    def call(self, function: Any, /, *given: Any, **named: Any) -> Any:
        """Call a value.

        Raises:
            TypeError: it is no function.
            Spent: too many functions call each other.
        """
        self.budget.spend()
        if isinstance(function, Native):
            return function.function(*given, **named)
        if not isinstance(function, Function):
            raise TypeError(f"{type(function).__name__} is no function")
        if self.calls >= CALLS:
            raise Spent("functions in functions, too deep")
        scope = function.bind(given, named)
        self.calls += 1
        try:
            return function.body(scope)
        finally:
            self.calls -= 1

    def assign(self, target: ast.expr, value: Any, scope: Scope) -> None:
        """target = value, where the target may have parts."""
        self.budget.spend()
        if isinstance(target, ast.Name):
            scope.values[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            self._unpack(target.elts, list(self.do.items(value)), scope)
        elif isinstance(target, ast.Subscript):
            self.put(self.value(target.value, scope), self.value(target.slice, scope), value)
        else:
            raise Refused(f"an assignment to {type(target).__name__}")

    def put(self, container: Any, index: Any, value: Any) -> None:
        """container[index] = value"""
        if type(container) not in (list, dict) or type(index) is slice:
            raise Refused(f"an assignment to a part of a {type(container).__name__}")
        self.budget.measure(index)
        container[index] = value

    def _unpack(self, targets: list[ast.expr], values: list[Any], scope: Scope) -> None:
        starred = [place for place, target in enumerate(targets) if isinstance(target, ast.Starred)]
        if starred:
            before, after = starred[0], len(targets) - starred[0] - 1
            if len(values) < before + after:
                raise ValueError("too few values to unpack")
            stop = len(values) - after
            values = [*values[:before], values[before:stop], *values[stop:]]
        for target, value in zip(targets, values, strict=True):
            self.assign(target.value if isinstance(target, ast.Starred) else target, value, scope)

    def _constant(self, node: ast.Constant, scope: Scope) -> Any:
        if type(node.value) not in (int, float, str, bool, type(None)):
            raise Refused(type(node.value).__name__)
        return self.do.number(node.value)

    def _logic(self, node: ast.BoolOp, scope: Scope) -> Any:
        wanted = isinstance(node.op, ast.Or)
        for part in node.values:
            value = self.value(part, scope)
            if bool(value) is wanted:
                break
        return value

    def _compare(self, node: ast.Compare, scope: Scope) -> bool:
        left = self.value(node.left, scope)
        for operator, part in zip(node.ops, node.comparators, strict=True):
            right = self.value(part, scope)
            if not self.do.compare(type(operator), left, right):
                return False
            left = right
        return True

    def _call(self, node: ast.Call, scope: Scope) -> Any:
        if any(keyword.arg is None for keyword in node.keywords):
            raise Refused("** in a call")
        owner = None
        if isinstance(node.func, ast.Attribute):
            owner = self.value(node.func.value, scope)
        function = self.value(node.func, scope) if owner is None or owner is MATH else None
        given = self.values(node.args, scope)
        named = {str(keyword.arg): self.value(keyword.value, scope) for keyword in node.keywords}
        if function is None and isinstance(node.func, ast.Attribute):
            return method(self.library, owner, node.func.attr, given, named)
        return self.call(function, *given, **named)

    def _attribute(self, node: ast.Attribute, scope: Scope) -> Any:
        """Of `math` alone: a method is only ever called."""
        if self.value(node.value, scope) is not MATH or node.attr not in self.math:
            raise Refused(f"the attribute {node.attr}")
        return self.math[node.attr]

    def _dict(self, node: ast.Dict, scope: Scope) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                raise Refused("** in a dict")
            name = self.value(key, scope)
            self.budget.measure(name)
            found[name] = self.value(value, scope)
        return found

    def _dict_comprehension(self, node: ast.DictComp, scope: Scope) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for inner in self._loop(node.generators, scope):
            name = self.value(node.key, inner)
            self.budget.measure(name)
            found[name] = self.value(node.value, inner)
        return found

    def _each(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp, scope: Scope) -> Iterator[Any]:
        return (self.value(node.elt, inner) for inner in self._loop(node.generators, scope))

    def _loop(self, loops: list[ast.comprehension], scope: Scope) -> Iterator[Scope]:
        """The scope of each turn of nested loops: one and the same, as in Python."""
        yield from self._turns(loops, Scope(scope))

    def _turns(self, loops: list[ast.comprehension], scope: Scope) -> Iterator[Scope]:
        if not loops:
            yield scope
            return
        first, *rest = loops
        if first.is_async:
            raise Refused("async")
        for item in self.do.items(self.value(first.iter, scope)):
            self.assign(first.target, item, scope)
            if all(self.value(test, scope) for test in first.ifs):
                yield from self._turns(rest, scope)

    def _lambda(self, node: ast.Lambda, scope: Scope) -> Function:
        return self.function(node.args, frozenset(), lambda inner: self.value(node.body, inner), scope)

    def function(self, node: ast.arguments, own: frozenset[str], body: Callable[[Scope], Any], scope: Scope) -> Function:
        """A function with parameters by place, with or without defaults. Annotations are not looked at."""
        if node.vararg or node.kwarg or node.kwonlyargs:
            raise Refused("* in a definition")
        names = tuple(parameter.arg for parameter in (*node.posonlyargs, *node.args))
        return Function(names, tuple(self.values(node.defaults, scope)), own | set(names), body, scope)

    def _text(self, node: ast.JoinedStr, scope: Scope) -> str:
        parts = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                spec = "" if part.format_spec is None else str(self.value(part.format_spec, scope))
                parts.append(self.do.text(self.value(part.value, scope), part.conversion, spec))
            else:
                parts.append(str(self.value(part, scope)))
        self.budget.measure(parts)
        return "".join(parts)
