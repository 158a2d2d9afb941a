"""Python functions named in YAML by their dotted path."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from xlm_core.errors import DataError


def resolve(path: str) -> Callable[..., Any]:
    """The callable at `package.module.name`. Modules in the working directory are found too.

    Raises:
        DataError: the module does not import, or has no such callable.
    """
    module_name, _, name = path.rpartition(".")
    if not module_name:
        raise DataError(f"{path!r} is not a dotted path", "Write it as package.module.function.")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        hint = f"Install the package, or start xlm where {module_name.split('.')[0]} can be imported."
        raise DataError(f"{path} does not import: {error}", hint) from error
    found = getattr(module, name, None)
    if not callable(found):
        raise DataError(f"the module {module_name} has no function {name}", f"It is {module.__file__}.")
    return found  # type: ignore[no-any-return]


def code_hash(path: str) -> str:
    """Hash of the source of the callable at `path`: of its file, and of what that imports of its own package."""
    module = inspect.unwrap(resolve(path)).__module__
    top = module.partition(".")[0]
    found: dict[str, bytes] = {}
    _read(module, "xlm_core.tasks" if top == "xlm_core" else top, found)
    return hashlib.sha256(b"".join(found[name] for name in sorted(found))).hexdigest()


def _read(module: str, scope: str, found: dict[str, bytes]) -> None:
    """Add the sources of a module and of the modules under `scope` that it imports."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # not a module but a name in one, or a script
        return
    if module in found or spec is None or not str(spec.origin).endswith(".py"):
        return
    found[module] = Path(str(spec.origin)).read_bytes()
    package = module if spec.submodule_search_locations is not None else spec.parent
    for name in _imported(found[module], package or ""):
        if name == scope or name.startswith(f"{scope}."):
            _read(name, scope, found)


def _imported(source: bytes, package: str) -> Iterator[str]:
    """Every name that may be a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module
            yield str(base)
            yield from (f"{base}.{alias.name}" for alias in node.names)
