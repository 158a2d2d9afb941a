"""XLM: train, decode and compare autoregressive and non-autoregressive language models.

The names below are imported when first used, so that `import xlm_core` costs nothing. Public, and kept to as said here, are:

* these names and the functions of `xlm_core.run`;
* the hooks of `xlm_core.hookspecs`, and what passes between them: `xlm_core.protocols`;
* what a plugin may import beside those: `config`, `errors`, `canvas`, `trace`, `nn`, `noise`, `losses`, `sampling`, `testing`;
* config keys, groups and options: the dataclasses of `xlm_core.config`, the names of the files in `xlm_core/conf`, and the rule
  that a plugin's files bear its family's name;
* commands, their flags, their exit codes, and the keys that `--json` prints;
* the files of a run, their names and keys.

Names that begin with an underscore, and all other modules, may change at any time. `tests/public_surface.json` has the whole
list; a test compares it with the code, so that a change of it is a decision, which `python tests/test_surface.py` records.

Versions are MAJOR.MINOR.PATCH. A patch corrects. A minor release adds: a new hook is optional, a new argument of a hook need
not be taken, a new field or key has a default, and runs and checkpoints of every earlier release of the same major version are
read. What is to go first works on for at least one minor release, in which its use warns and names what takes its place (a
`DeprecationWarning` in Python, a line on stderr for a flag, a config key or a file); it goes with the next major release, so a
plugin that requires `xlm-core>=1.0,<2` never loses anything. A default that changes results is a change like any other, unless
the old one was a fault.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xlm_core.composition import compose as compose
    from xlm_core.families import load as load_family
    from xlm_core.hookspecs import hookimpl as hookimpl

    __version__: str

_HOMES = {
    "compose": ("xlm_core.composition", "compose"),
    "hookimpl": ("xlm_core.hookspecs", "hookimpl"),
    "load_family": ("xlm_core.families", "load"),
}

__all__ = ["__version__", "compose", "hookimpl", "load_family"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib_metadata import version

        return version("xlm-core")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
