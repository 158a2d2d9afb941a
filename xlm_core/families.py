"""Which families are installed, read from wheel metadata alone, and loading one of them.

Looking imports nothing of a plugin. Loading imports one plugin, the one that is asked for, into a plugin manager of its own:
what is wrong with any other plugin cannot matter.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import pluggy

from xlm_core import hookspecs
from xlm_core.errors import FamilyError

if TYPE_CHECKING:
    from importlib_metadata import Distribution, EntryPoint

    from xlm_core.protocols import FamilyInfo

GROUP = "xlm.families"
CORE = "xlm-core"
HOOKS = ("xlm_info", "xlm_model", "xlm_loss", "xlm_predictor", "xlm_collator")
"""What every family implements."""
OPTIONAL = ("xlm_commands",)
PARTS = ("model", "loss", "predictor", "collator")
OF_CORE = re.compile(r"\s*xlm[-_.]+core(?![\w.-]*\w)", re.IGNORECASE)
"""Begins a requirement of core, in any spelling of its name. Only these are parsed: looking must be quick."""
NAME = re.compile(r"[a-z][a-z0-9_]*")
DEBUG_HINT = "XLM_DEBUG=1 shows the traceback."

Status = Literal["ok", "incompatible", "conflict", "disabled", "broken"]
"""`broken` is what a closer look finds: `xlm_core.diagnosis`."""


@dataclass(frozen=True, slots=True)
class FamilyRecord:
    """What wheel metadata says of a family."""

    name: str
    target: str
    """Module that implements the hooks."""
    distribution: str
    version: str
    status: Status = "ok"
    detail: str = ""
    """Why the family cannot be used, or what is odd about one that can."""

    @property
    def package(self) -> str:
        return re.split(r"[.:]", self.target)[0]

    @property
    def origin(self) -> str:
        """The distribution and its version."""
        return f"{self.distribution} {self.version}".strip()

    @property
    def configs(self) -> Path | None:
        """The folder of the family's YAML files, found without importing the family; None where there is none."""
        from importlib.util import find_spec

        spec = find_spec(self.package)
        folders = [Path(place) / "conf" for place in (spec.submodule_search_locations or [] if spec else [])]
        return next((folder for folder in folders if folder.is_dir()), None)


@dataclass(frozen=True)
class Family:
    """A loaded family."""

    record: FamilyRecord
    manager: pluggy.PluginManager
    info: FamilyInfo

    @property
    def hook(self) -> Any:
        """The hooks of `xlm_core.hookspecs`, as pluggy calls them: with keyword arguments."""
        return self.manager.hook

    def register(self, plugin: object, name: str) -> None:
        """Add a plugin whose hooks come before the family's own. One of the same name is replaced."""
        if self.manager.has_plugin(name):
            self.manager.unregister(name=name)
        self.manager.register(plugin, name=name)


def installed() -> dict[str, FamilyRecord]:
    """Every family that an installed distribution declares, by name, whether or not it can be used."""
    from importlib_metadata import entry_points, version

    core = version(CORE)
    disabled = set(os.environ.get("XLM_DISABLE_FAMILIES", "").replace(" ", "").split(","))
    found: dict[str, dict[tuple[str, str], FamilyRecord]] = {}
    for point in entry_points(group=GROUP):
        record = _record(point, core, disabled)
        # An editable install can list one entry point twice.
        found.setdefault(record.name, {}).setdefault((record.distribution, record.target), record)
    return {name: _only(list(claims.values())) for name, claims in sorted(found.items())}


def load(name: str) -> Family:
    """Import one family and check that it keeps the contract.

    Raises:
        FamilyError: it is not installed, not usable, does not import, or its hooks are not those of `xlm_core.hookspecs`.
    """
    record = find(name)
    module = _import(record)
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module, name=name)
    except pluggy.PluginValidationError as error:
        raise broken(record, f"has a hook of another form: {' '.join(str(error).split())}") from error
    _check_hooks(record, manager)
    return Family(record, manager, _info(record, manager))


def find(name: str) -> FamilyRecord:
    """The record of a family that can be used.

    Raises:
        FamilyError: it is not installed, incompatible, disabled, or claimed by two distributions.
    """
    records = installed()
    if name not in records:
        raise FamilyError(f"no family named {name!r} is installed", _unknown_hint(name, records))
    record = records[name]
    if record.status != "ok":
        raise FamilyError(f"family {name!r} ({record.origin}) is unusable: {record.detail}", _HINTS[record.status])
    return record


def nearest(word: str, choices: Iterable[str]) -> str:
    """A sentence that offers the choice that is most like `word`; empty when none is."""
    close = difflib.get_close_matches(word, list(choices), n=1)
    return f"Did you mean {close[0]!r}?" if close else ""


def broken(record: FamilyRecord, what: str, hint: str = DEBUG_HINT) -> FamilyError:
    """The error that says what is wrong with an installed family and whose it is."""
    return FamilyError(f"family {record.name!r} ({record.origin}) {what}", hint)


_HINTS: dict[str, str] = {
    "incompatible": "Install versions of the family and of xlm-core that belong together: `pip check` names them.",
    "conflict": "Uninstall all of these but one.",
    "disabled": "Take it out of XLM_DISABLE_FAMILIES.",
}


def _record(point: EntryPoint, core: str, disabled: set[str]) -> FamilyRecord:
    distribution = point.dist
    assert distribution is not None  # entry_points() reads them from distributions
    metadata = distribution.metadata  # read once: each of the distribution's own properties would read it again
    record = FamilyRecord(point.name, point.value, metadata["Name"], metadata["Version"])
    if point.name in disabled:
        return replace(record, status="disabled", detail="XLM_DISABLE_FAMILIES names it")
    if not NAME.fullmatch(point.name):
        detail = "a family's name is lower-case letters, digits and underscores, beginning with a letter"
        return replace(record, status="incompatible", detail=detail)
    if detail := _incompatibility(metadata.get_all("Requires-Dist") or [], core):
        return replace(record, status="incompatible", detail=detail)
    return _of_copies(record, distribution)  # type: ignore[arg-type]


def _of_copies(record: FamilyRecord, distribution: Distribution) -> FamilyRecord:
    """Say that a distribution is installed twice. Python may take its code from one place and its metadata from another: a
    family whose code may not be of the version that it claims cannot be used."""
    from importlib_metadata import distributions

    copies = list(distributions(name=record.distribution))
    if len(copies) == 1:
        return record
    (first, _), *others = dict.fromkeys((str(copy.locate_file("")), copy.version) for copy in copies)
    if not others:  # a folder that is on the path twice
        return record
    elsewhere = " and ".join(f"{version} in {place}" for place, version in others)
    if all(place != first for place, _ in others) and _is_code_of(distribution, record.package):
        return replace(record, detail=f"installed twice: {record.version} in {first} is used, {elsewhere} is not")
    detail = f"it is installed twice, {record.version} in {first} and {elsewhere}, and its code may be that of either"
    return replace(record, status="conflict", detail=detail)


def _is_code_of(distribution: Distribution, package: str) -> bool:
    """Whether what Python would import stands beside this distribution's metadata, or where its editable install points to."""
    from importlib.util import find_spec
    from urllib.parse import unquote, urlsplit

    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return False
    code, origin = Path(spec.origin).parent.resolve(), distribution.origin
    if code.parent == Path(str(distribution.locate_file(""))).resolve():
        return True
    return origin is not None and code.is_relative_to(Path(unquote(urlsplit(origin.url).path)).resolve())


def _incompatibility(requires: Iterable[str], core: str) -> str:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirements = [Requirement(text) for text in requires if OF_CORE.match(text)]
    except InvalidRequirement as error:
        return f"its requirements cannot be read: {error}"
    wanted = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    if not wanted:
        return f"it declares no dependency on {CORE}"
    unmet = [str(r.specifier) for r in wanted if not r.specifier.contains(core, prereleases=True)]
    return f"it needs {CORE} {', '.join(unmet)}, and {core} is installed" if unmet else ""


def _only(claims: list[FamilyRecord]) -> FamilyRecord:
    if len(claims) == 1:
        return claims[0]
    owners = " and ".join(sorted({claim.origin for claim in claims}))
    detail = f"{owners} both provide it" if len({c.distribution for c in claims}) > 1 else f"{owners} declares it twice"
    return replace(claims[0], distribution=owners, version="", status="conflict", detail=detail)


def _unknown_hint(name: str, records: dict[str, FamilyRecord]) -> str:
    if not records:
        return f"No family is installed: `pip install xlm-family-{name}` gets one."
    close = nearest(name, records)
    return close or f"Installed are {', '.join(records)}. `pip install xlm-family-{name}` may get it."


def _import(record: FamilyRecord) -> Any:
    from importlib_metadata import EntryPoint

    try:
        with redirect_stdout(sys.stderr):  # what a plugin says when it is imported is no result of a command
            return EntryPoint(record.name, record.target, GROUP).load()
    except (Exception, SystemExit) as error:
        raise broken(record, f"does not import: {type(error).__name__}: {error}") from error


def _check_hooks(record: FamilyRecord, manager: pluggy.PluginManager) -> None:
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        unknown = next(name for name, caller in vars(manager.hook).items() if not caller.has_spec())
        hint = nearest(unknown, HOOKS + OPTIONAL) or f"The hooks are {', '.join(HOOKS + OPTIONAL)}."
        raise broken(record, f"implements the unknown hook {unknown!r}", hint) from error
    missing = [name for name in HOOKS if not getattr(manager.hook, name).get_hookimpls()]
    if missing:
        raise broken(record, f"does not implement {', '.join(missing)}", "xlm_core.hookspecs says what each hook returns.")


def _info(record: FamilyRecord, manager: pluggy.PluginManager) -> FamilyInfo:
    try:
        info = manager.hook.xlm_info()
    except Exception as error:
        raise broken(record, f"fails in xlm_info: {type(error).__name__}: {error}") from error
    fault = _fault(info)
    if fault:
        raise broken(record, f"declares itself wrongly in xlm_info: {fault}", "See FamilyInfo in xlm_core.protocols.")
    return info  # type: ignore[no-any-return]


def _fault(info: Any) -> str:
    from dataclasses import is_dataclass

    from xlm_core.protocols import FamilyInfo, Layout, Likelihood

    if not isinstance(info, FamilyInfo):
        return f"it returns {type(info).__name__}, not FamilyInfo"
    layouts, likelihoods = get_args(Layout), get_args(Likelihood)
    if not info.layouts or not set(info.layouts) <= set(layouts):
        return f"layouts are {info.layouts!r}, not some of {layouts}"
    if info.likelihood not in likelihoods:
        return f"likelihood is {info.likelihood!r}, not one of {likelihoods}"
    if set(info.configs) != set(PARTS):
        return f"configs has the keys {sorted(info.configs)}, not {sorted(PARTS)}"
    plain = [part for part, kind in info.configs.items() if not (isinstance(kind, type) and is_dataclass(kind))]
    return f"configs.{plain[0]} is not a dataclass" if plain else ""
