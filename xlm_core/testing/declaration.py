"""What a family says of its own conformance: in the module `conformance` of its package, or on its `FamilySuite`."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xlm_core.families import FamilyRecord
    from xlm_core.testing.building import Built


@dataclass(frozen=True)
class Declaration:
    """The fields are variables of `<package>/conformance.py`, and attributes of a `FamilySuite`, all of them optional."""

    overrides: tuple[str, ...] = ()
    """Hydra overrides on the small config that is checked, as `predictor.steps=8`."""
    unused_parameters: Mapping[str, str] = field(default_factory=dict)
    """Pattern of parameter names, as `outcome.*` -> why no loss trains them."""
    expected_failures: Mapping[str, str] = field(default_factory=dict)
    """Check -> why the family fails it. One that passes all the same is a failure."""
    oracle: Callable[[Built], None] | str | None = None
    """The family's tests against an exact law: a function that raises AssertionError, or what `pytest` is to run, a file or a
    node, which is `path::name`."""

    @classmethod
    def of(cls, record: FamilyRecord) -> Declaration:
        """What the family's package declares."""
        name = f"{record.package}.conformance"
        if importlib.util.find_spec(name) is None:
            return cls()
        return cls().overlaid(vars(importlib.import_module(name)))

    def overlaid(self, names: Mapping[str, Any]) -> Declaration:
        """With those of its fields that `names` has. Mappings are joined, anything else is replaced."""
        given: dict[str, Any] = {f.name: names[f.name] for f in fields(self) if f.name in names}
        for name, value in given.items():
            if isinstance(value, Mapping):
                given[name] = {**getattr(self, name), **value}
        return replace(self, **given)
