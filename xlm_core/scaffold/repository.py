"""Writing the repository of a new family.

A template is a family that works: core's own in `minimal/`, or the package of one that is installed. A new family is its
template with other names, so there is no text with gaps in it that could differ from code that runs.
"""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import tempfile
from pathlib import Path

from xlm_core import families
from xlm_core.errors import ConfigError

MINIMAL = "minimal"
FOLDER = Path(__file__).parent / MINIMAL
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
"""Narrower than `families.NAME`: the name of a wheel cannot end in a dash."""
NOT_YAML = {"null", "nan", "inf", "true", "false", "yes", "no", "on", "off"}
"""What YAML and Hydra's overrides read as something else than a name."""
CACHES = re.compile(r"(^|/)(__pycache__|\.\w+_cache)/")
"""What Python and linters leave in a folder."""
CORE = '"xlm-core>=1.0,<2"'
OURS = ("pyproject.toml", "LICENSE", ".gitignore", ".github/workflows/tests.yml", "tests/test_conformance.py")
"""What every new repository has from `minimal/`, whatever its template."""


def write(name: str, template: str = MINIMAL, folder: Path | None = None) -> Path:
    """Write the repository of a new family.

    Args:
        name: of the family.
        template: `minimal`, or an installed family, whose package is copied.
        folder: where to; `xlm-family-NAME` in the working folder when not given. It must be new or empty.

    Returns:
        The folder.

    Raises:
        ConfigError: the name cannot be used, or the folder cannot be written.
        FamilyError: the template is not installed, or cannot be used.
    """
    check_name(name)
    folder = (folder or Path(distribution(name))).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists and is not empty", "Nothing is overwritten: choose another place with --to.")
    files = contents(name, template)
    try:
        _place(files, folder)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}", "Choose another place with --to.") from error
    return folder


def distribution(name: str) -> str:
    return f"xlm-family-{name.replace('_', '-')}"


def check_name(name: str) -> None:
    """
    Raises:
        ConfigError: no family can have this name, or one has it.
    """
    if not NAME.fullmatch(name) or keyword.iskeyword(name) or name in NOT_YAML:
        hint = "Lower-case words of letters and digits, joined by underscores, as my_family; no word of Python or YAML."
        raise ConfigError(f"a family cannot be called {name!r}", hint)
    record = families.installed().get(name)
    if record is not None:
        raise ConfigError(f"a family {name!r} is installed ({record.origin})", "Choose another name.")
    if importlib.util.find_spec(f"xlm_family_{name}") is not None:
        raise ConfigError(f"a package xlm_family_{name} is installed", "Choose another name.")


def contents(name: str, template: str = MINIMAL) -> dict[str, str]:
    """The files of the repository by path, all of them text.

    Raises:
        FamilyError: the template is not installed, or cannot be used.
    """
    own = {path: renamed(text, MINIMAL, name) for path, text in _texts(FOLDER).items()}
    if template == MINIMAL:
        return {renamed(path, MINIMAL, name): text for path, text in own.items()}
    record = families.find(template)
    found = {path: own[path] for path in OURS}
    found["pyproject.toml"] = found["pyproject.toml"].replace(CORE, ", ".join([CORE, *_more_requirements(record)]))
    found["README.md"] = _page(own["README.md"], record, name)
    try:
        package = _texts(_package(record))
    except UnicodeDecodeError as error:
        raise families.broken(record, "has files that are not text, and cannot be a template") from error
    for path, text in package.items():
        found[f"src/xlm_family_{name}/{renamed(path, template, name)}"] = renamed(text, template, name, record.distribution)
    return found


def renamed(text: str, old: str, new: str, wheel: str | None = None) -> str:
    """Text of a family that bears another name: as `old`, `xlm_family_old`, `OldModel` and `xlm-family-old`.

    Args:
        wheel: distribution of the old family, when it is not called after it.
    """
    # All at once: the new name may hold the old one.
    forms = {wheel or distribution(old): distribution(new), old: new, _class(old): _class(new)}
    dashed, word, prefix = map(re.escape, forms)
    pattern = rf"(?<![A-Za-z0-9])(?:{dashed}(?![A-Za-z0-9])|{word}(?![A-Za-z0-9])|{prefix}(?=[A-Z]))"
    return re.sub(pattern, lambda match: forms[match[0]], text)


def _class(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def _texts(folder: Path) -> dict[str, str]:
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path.read_text(encoding="utf-8") for name, path in files.items() if not CACHES.search(name)}


def _package(record: families.FamilyRecord) -> Path:
    """The folder of a family's package, found without importing it."""
    spec = importlib.util.find_spec(record.package)
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise families.broken(record, f"has no package {record.package} to copy")
    return Path(folders[0])


def _more_requirements(record: families.FamilyRecord) -> list[str]:
    """What the family needs beside core, quoted."""
    from importlib_metadata import requires

    needed = [text for text in requires(record.distribution) or [] if "extra" not in text.partition(";")[2]]
    return [f'"{text}"' for text in needed if not families.OF_CORE.match(text)]


def _page(own: str, record: families.FamilyRecord, name: str) -> str:
    """The page of the family that is copied, with our beginning, and our word on tests: its own are not in its wheel."""
    from importlib_metadata import metadata

    theirs = _sections(metadata(record.distribution).get("Description") or "")
    about = re.sub(r"^# [^\n]*\n|^```.*?^```\n+", "", theirs.pop("", ""), flags=re.MULTILINE | re.DOTALL).strip()
    ours = _sections(own)
    origin = f"It began as a copy of the family `{record.name}` of {record.origin}.\n\n"
    page = {key: renamed(text, record.name, name, record.distribution) for key, text in {"": about, **theirs}.items()}
    page[""] = ours[""] + origin + (page[""] and f"{page['']}\n\n")
    page["Testing"] = ours["Testing"]
    # What a link names in the other repository is not here.
    return re.sub(r"\[([^\]]+)\]\(\.\.?/[^)]*\)", r"\1", "".join(page.values()))


def _sections(page: str) -> dict[str, str]:
    """The sections of a page by heading, each with its heading; what stands before the first is under ""."""
    parts = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    return {part.partition("\n")[0][3:] if part.startswith("## ") else "": part for part in parts}


def _place(files: dict[str, str], folder: Path) -> None:
    """Write all files elsewhere, and put them in their place when all are written."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as place:
        staged = Path(place) / "repository"
        for path, text in files.items():
            file = staged / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        if not folder.exists():
            os.replace(staged, folder)
            return
        for entry in staged.iterdir():  # an empty folder stays the same one: somebody may be in it
            os.replace(entry, folder / entry.name)
