"""The hooks that a family implements. pluggy is the wiring; `protocols.py` is the contract of what is wired.

A hook may take fewer arguments than are listed here, and never others. Each gets the config node of its own part, already
checked against the dataclass that the family names in `xlm_info`. A family's whole `plugin.py`:

    @hookimpl
    def xlm_model(cfg, tokenizer):
        from xlm_family_mine.model import Mine

        return Mine(cfg, vocab_size=len(tokenizer))

The import is inside the function, so that listing families costs nothing.

`xlm_commands` is optional, the others are not. What wraps a hook of every family, as an adapter around each network, is an
extension: a class whose methods are hook wrappers, which `extensions.NAME={_target_: PATH}` puts around any family.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import typer

    from xlm_core.protocols import Collator, FamilyInfo, Layout, Loss, Model, Predictor, Stage, Tokenizer

PROJECT = "xlm"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def xlm_info() -> FamilyInfo:  # type: ignore[empty-body]
    """Say what the family is, can do, and which dataclasses describe its configs. Imports no torch."""


@hookspec(firstresult=True)
def xlm_model(cfg: Any, tokenizer: Tokenizer) -> Model:  # type: ignore[empty-body]
    """Build the network. Weights are initialised here, from torch's global generator."""


@hookspec(firstresult=True)
def xlm_loss(cfg: Any, model: Model, tokenizer: Tokenizer) -> Loss:  # type: ignore[empty-body]
    """Build the training objective over `model`."""


@hookspec(firstresult=True)
def xlm_predictor(cfg: Any, model: Model, tokenizer: Tokenizer) -> Predictor:  # type: ignore[empty-body]
    """Build the decoder over `model`."""


@hookspec(firstresult=True)
def xlm_collator(cfg: Any, tokenizer: Tokenizer, layout: Layout, stage: Stage) -> Collator:  # type: ignore[empty-body]
    """Build the function that turns examples of `layout` into a batch for `stage`. It runs in data workers."""


@hookspec(firstresult=True)
def xlm_commands() -> typer.Typer:  # type: ignore[empty-body]
    """Commands of the family's own: `xlm run FAMILY COMMAND`. Optional, and asked for only then. An XlmError that a command
    raises is explained as core's are, and typer.Exit sets the exit code."""
