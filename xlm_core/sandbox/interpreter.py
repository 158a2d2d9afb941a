"""Statements of a program. What a program can do is what is written here and in `expressions`, and nothing else.

Functions, loops, conditions, assignments, assert, raise, and the import of `math`. No classes, no exceptions to catch, no
decorators, and no object whose insides a program could reach.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from xlm_core.sandbox.budget import Budget, Refused
from xlm_core.sandbox.expressions import MATH, Expressions, Scope


@dataclass(frozen=True)
class Leave:
    """How a block ended before its end: at a break, a continue or a return."""

    by: str
    value: Any = None


CLOSED = (ast.FunctionDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
"""What has names of its own."""


class Interpreter(Expressions):
    """Runs a program of which nothing is trusted.

    Args:
        steps: about one for each node of the tree that is visited, and more for whatever is large.
    """

    def __init__(self, steps: int) -> None:
        super().__init__(Budget(steps))
        builtins = Scope(None, values=dict(self.library.builtins()))
        self.globals = Scope(builtins)
        self.owned: dict[ast.FunctionDef, frozenset[str]] = {}
        self.statements: dict[type[ast.stmt], Callable[[Any, Scope], Leave | None]] = {
            ast.Expr: self._expression,
            ast.Assign: self._assign,
            ast.AugAssign: self._augment,
            ast.AnnAssign: self._annotated,
            ast.If: lambda node, scope: self.block(node.body if self.value(node.test, scope) else node.orelse, scope),
            ast.For: self._for,
            ast.While: self._while,
            ast.FunctionDef: self._define,
            ast.Return: lambda node, scope: Leave("return", node.value and self.value(node.value, scope)),
            ast.Break: lambda node, scope: Leave("break"),
            ast.Continue: lambda node, scope: Leave("continue"),
            ast.Pass: lambda node, scope: None,
            ast.Import: self._import,
            ast.ImportFrom: self._import_from,
            ast.Assert: self._assert,
            ast.Raise: self._raise,
        }

    def run(self, program: ast.Module, function: str) -> Any:
        """Run the program, and then its function, which takes no arguments.

        Raises:
            Refused: the program uses what there is not.
            Spent: it uses too much.
            NameError: it has no such function.
            Exception: whatever Python's operators raise.
        """
        self.block(program.body, self.globals)
        return self.call(self.globals.find(function))

    def block(self, nodes: list[ast.stmt], scope: Scope) -> Leave | None:
        for node in nodes:
            self.budget.spend()
            statement = self.statements.get(type(node))
            if statement is None:
                raise Refused(type(node).__name__)
            left = statement(node, scope)
            if left is not None:
                return left
        return None

    def _expression(self, node: ast.Expr, scope: Scope) -> None:
        self.value(node.value, scope)

    def _assign(self, node: ast.Assign, scope: Scope) -> None:
        value = self.value(node.value, scope)
        for target in node.targets:
            self.assign(target, value, scope)

    def _annotated(self, node: ast.AnnAssign, scope: Scope) -> None:
        if node.value is not None:
            self.assign(node.target, self.value(node.value, scope), scope)

    def _augment(self, node: ast.AugAssign, scope: Scope) -> None:
        target = node.target
        if isinstance(target, ast.Subscript):
            container, index = self.value(target.value, scope), self.value(target.slice, scope)
            old = self.do.part(container, index)
        elif isinstance(target, ast.Name):
            old = scope.find(target.id)
        else:
            raise Refused(f"an assignment to {type(target).__name__}")
        more = self.value(node.value, scope)
        if type(old) is list and isinstance(node.op, ast.Add):
            old.extend(list(self.do.items(more)))
            new: Any = old
        else:
            new = self.do.binary(type(node.op), old, more)
        if isinstance(target, ast.Name):
            scope.values[target.id] = new
        else:
            self.put(container, index, new)

    def _for(self, node: ast.For, scope: Scope) -> Leave | None:
        def turns() -> Iterator[None]:
            for item in self.do.items(self.value(node.iter, scope)):
                self.assign(node.target, item, scope)
                yield

        return self._repeat(node, turns(), scope)

    def _while(self, node: ast.While, scope: Scope) -> Leave | None:
        def turns() -> Iterator[None]:
            while self.value(node.test, scope):
                yield

        return self._repeat(node, turns(), scope)

    def _repeat(self, node: ast.For | ast.While, turns: Iterator[None], scope: Scope) -> Leave | None:
        for _ in turns:
            left = self.block(node.body, scope)
            if left is not None and left.by == "break":
                return None
            if left is not None and left.by == "return":
                return left
        return self.block(node.orelse, scope)

    def _define(self, node: ast.FunctionDef, scope: Scope) -> None:
        if node.decorator_list:
            raise Refused("a decorator")

        def body(inner: Scope) -> Any:
            left = self.block(node.body, inner)
            return left and left.value

        if node not in self.owned:  # a definition in a loop
            self.owned[node] = frozenset(name for statement in node.body for name in _assigned(statement))
        scope.values[node.name] = self.function(node.args, self.owned[node], body, scope)

    def _import(self, node: ast.Import, scope: Scope) -> None:
        for alias in node.names:
            if alias.name != "math":
                raise Refused(f"import {alias.name}")
            scope.values[alias.asname or alias.name] = MATH

    def _import_from(self, node: ast.ImportFrom, scope: Scope) -> None:
        for alias in node.names:
            if node.module != "math" or node.level or alias.name not in self.math:
                raise Refused(f"from {node.module} import {alias.name}")
            scope.values[alias.asname or alias.name] = self.math[alias.name]

    def _assert(self, node: ast.Assert, scope: Scope) -> None:
        if not self.value(node.test, scope):
            raise AssertionError

    def _raise(self, node: ast.Raise, scope: Scope) -> NoReturn:
        """Nothing can catch it, so what it is does not matter."""
        raise RuntimeError(f"raised in line {node.lineno}")


def _assigned(node: ast.AST) -> Iterator[str]:
    """The names that a statement gives a value, in its own function."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.FunctionDef):
        yield node.name
    elif isinstance(node, ast.alias):
        yield node.asname or node.name
    if not isinstance(node, CLOSED):
        for child in ast.iter_child_nodes(node):
            yield from _assigned(child)
