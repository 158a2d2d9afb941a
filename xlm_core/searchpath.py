"""Where config files are: core's folder, those of the families in use, the user's own. Imports neither Hydra nor a plugin.

A plugin's files bear its family's name, so that no two plugins can mean the same file, and so that a data set tells which
plugin ships it: `toy_words` is of `toy`, and any family can be trained on it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from xlm_core import families
from xlm_core.errors import ConfigError, XlmError
from xlm_core.families import FamilyRecord

CORE = Path(__file__).parent / "conf"


@dataclass(frozen=True)
class Source:
    """A folder of config files."""

    provider: str
    """core, a family's distribution and version, or the user's folder."""
    folder: Path

    def files(self) -> dict[str, Path]:
        """Its files by name, as `data/star`."""
        found = sorted(glob("**/*.yaml", root_dir=self.folder, recursive=True))
        return {name.removesuffix(".yaml").replace(os.sep, "/"): self.folder / name for name in found}


def sources(names: Sequence[str] = (), folder: Path | None = None) -> list[Source]:
    """The search path: core's configs, then those of the families `names`, then the user's `folder`.

    Raises:
        FamilyError: a family cannot be used, has no configs, or one of its files has the name of an earlier one.
        ConfigError: there is no such folder, or one of its files has the name of an earlier one.
    """
    path = [Source("core", CORE)]
    for name in dict.fromkeys(names):
        path.append(source_of(families.find(name), path))
    if folder is not None:
        if not folder.is_dir():
            hint = "--config-dir takes a folder of config groups, as DIR with DIR/model/mine.yaml."
            raise ConfigError(f"there is no folder {folder}", hint)
        own = Source(str(folder), folder.resolve())
        if repeated := _repeated(own.files(), path):
            raise ConfigError(f"{folder} {repeated}", "Hydra would never read it: give it another name.")
        path.append(own)
    return path


def source_of(record: FamilyRecord, path: Sequence[Source] = (Source("core", CORE),)) -> Source:
    """The configs of a family, to go behind `path`.

    Raises:
        FamilyError: it has none, or one of them has the name of an earlier one, or a name that is not the family's to give.
    """
    name, folder = record.name, record.configs
    if folder is None or not (folder / "family" / f"{name}.yaml").exists():
        raise families.broken(record, f"ships no conf/family/{name}.yaml", "It was built without its config files.")
    source = Source(record.origin, folder)
    names = source.files()
    if fault := _repeated(names, path) or _foreign(names, name):
        raise families.broken(record, fault, f"A family's config files bear its name, as model/{name}_tiny.yaml.")
    return source


def everything(folder: Path | None = None) -> list[Source]:
    """Core's configs, those of every family that can be used, and the user's; a family whose configs are broken is left out."""
    path = sources()
    for record in families.installed().values():
        try:
            path += [source_of(record)] if record.status == "ok" else []
        except XlmError:
            continue
    return path + sources(folder=folder)[1:]


def shippers(data: Iterable[str]) -> list[str]:
    """The families whose plugins ship some of these data sets. Core's own, and what nobody ships, have none."""
    found = [option for option in data if not (CORE / "data" / f"{option}.yaml").exists()]
    records = families.installed() if found else {}
    return [name for name, record in records.items() if record.status == "ok" and any(_ships(record, one) for one in found)]


def options(path: Sequence[Source]) -> dict[str, dict[str, Source]]:
    """Config group -> option -> the source that has it."""
    groups: dict[str, dict[str, Source]] = {}
    for source in path:
        for name in source.files():
            group, _, option = name.rpartition("/")
            if group:
                groups.setdefault(group, {}).setdefault(option, source)
    return groups


def find(name: str, path: Sequence[Source]) -> Path:
    """The file of a config, as `data/star`.

    Raises:
        ConfigError: there is none.
    """
    files = {key: file for source in reversed(path) for key, file in source.files().items()}
    wanted = name.removesuffix(".yaml").strip("/")
    if wanted not in files:
        same = [key for key in files if key.rpartition("/")[2] == wanted]
        hint = f"Did you mean {same[0]!r}?" if same else families.nearest(wanted, files)
        raise ConfigError(f"there is no config {name!r}", hint or "`xlm configs list` shows all.")
    return files[wanted]


def recipe(data: str, family: str, preset: str | None = None, folder: Path | None = None) -> str | None:
    """The `experiment` option with the hyper-parameters of a pair, `<data>_<family>[_<preset>]`; None where nobody ships one.

    Raises:
        ConfigError: there is no such preset.
    """
    known = options(sources([family, *shippers([data])], folder)).get("experiment", {})
    name = "_".join(part for part in (data, family, preset) if part)
    if name in known or preset is None:
        return name if name in known else None
    presets = [option.removeprefix(f"{data}_{family}_") for option in known if option.startswith(f"{data}_{family}_")]
    hint = f"Presets are {', '.join(presets)}." if presets else "It has no presets."
    raise ConfigError(f"{family} on {data} has no preset {preset!r}", families.nearest(preset, presets) or hint)


def _repeated(names: Iterable[str], path: Sequence[Source]) -> str:
    """Which of these files is on the path already, where Hydra would find it first and say nothing."""
    pairs = ((name, source) for source in path for name in names)
    shadowed = ((name, source.provider) for name, source in pairs if os.path.exists(f"{source.folder}/{name}.yaml"))
    return next((f"ships {name}.yaml, which shadows that of {provider}" for name, provider in shadowed), "")


def _foreign(names: Iterable[str], family: str) -> str:
    """Which of these files does not bear the family's name. A recipe bears it behind that of the data."""
    for name in names:
        group, _, option = name.rpartition("/")
        padded = f"{option}_"
        if not (padded.startswith(f"{family}_") or (group == "experiment" and f"_{family}_" in padded)):
            return f"ships {name}.yaml, which does not bear the family's name"
    return ""


def _ships(record: FamilyRecord, data: str) -> bool:
    own = f"{data}_".startswith(f"{record.name}_")
    return own and record.configs is not None and (record.configs / "data" / f"{data}.yaml").exists()
