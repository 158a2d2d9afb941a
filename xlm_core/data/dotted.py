"""Python functions named in YAML by their dotted path."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable
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
    """Hash of the source file that the callable at `path` is written in."""
    file = inspect.getsourcefile(inspect.unwrap(resolve(path)))
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
