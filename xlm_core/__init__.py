"""XLM: train, decode and compare autoregressive and non-autoregressive language models.

The public surface is the names below; each is imported when first used, so that `import xlm_core` costs nothing.
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
