"""Where config files are: core's folder, those of the families in use, the user's own. Imports neither Hydra nor a plugin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xlm_core import families
from xlm_core.errors import ConfigError, XlmError

CORE = Path(__file__).parent / "conf"


@dataclass(frozen=True)
class Source:
    """A folder of config files."""

    provider: str
    """core, a family's distribution and version, or the user's folder."""
    folder: Path

    def files(self) -> dict[str, Path]:
        """Its files by name, as `data/star`."""
        found = sorted(self.folder.rglob("*.yaml"))
        return {path.relative_to(self.folder).with_suffix("").as_posix(): path for path in found}


def sources(names: Sequence[str] = (), folder: Path | None = None) -> list[Source]:
    """The search path: core's configs, then those of the families `names`, then the user's `folder`.

    Raises:
        FamilyError: a family cannot be used, has no configs, or one of its files has the name of an earlier one.
        ConfigError: there is no such folder, or one of its files has the name of an earlier one.
    """
    path = [Source("core", CORE)]
    for name in names:
        record = families.find(name)
        if record.configs is None or not (record.configs / "family" / f"{name}.yaml").exists():
            raise families.broken(record, f"ships no conf/family/{name}.yaml", "It was built without its config files.")
        path.append(Source(record.origin, record.configs))
        if repeated := _repeated(path):
            raise families.broken(record, repeated, f"A family's config files bear its name, as model/{name}_tiny.yaml.")
    if folder is not None:
        if not folder.is_dir():
            hint = "--config-dir takes a folder of config groups, as DIR with DIR/model/mine.yaml."
            raise ConfigError(f"there is no folder {folder}", hint)
        path.append(Source(str(folder), folder.resolve()))
        if repeated := _repeated(path):
            raise ConfigError(f"{folder} {repeated}", "Hydra would never read it: give it another name.")
    return path


def everything() -> list[Source]:
    """Core's configs and those of every family that can be used; a family whose configs are broken is left out."""
    path = sources()
    for record in families.installed().values():
        try:
            path += sources([record.name])[1:]
        except XlmError:
            continue
    return path


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
    known = options(sources([family], folder)).get("experiment", {})
    name = "_".join(part for part in (data, family, preset) if part)
    if name in known or preset is None:
        return name if name in known else None
    presets = [option.removeprefix(f"{data}_{family}_") for option in known if option.startswith(f"{data}_{family}_")]
    hint = f"Presets are {', '.join(presets)}." if presets else "It has no presets."
    raise ConfigError(f"{family} on {data} has no preset {preset!r}", families.nearest(preset, presets) or hint)


def _repeated(path: Sequence[Source]) -> str:
    """What the last source repeats of those before it, of which Hydra would take the first without a word."""
    *earlier, last = path
    own = last.files()
    shadowed = ((name, source.provider) for source in earlier for name in source.files() if name in own)
    return next((f"ships {name}.yaml, which shadows that of {provider}" for name, provider in shadowed), "")
