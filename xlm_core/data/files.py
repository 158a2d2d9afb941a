"""The user's files: which of them make a split, in which format they are, and what identifies their content."""

from __future__ import annotations

import glob
import hashlib
import re
from pathlib import Path

from xlm_core.errors import DataError

FORMATS = {
    ".txt": "text",
    ".text": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
LABELS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
HASHED_BYTES = 16 << 20
"""Files up to this size are known by their content, larger ones by place, size and time."""


def find(path: str) -> list[Path]:
    """The files that a file name, a folder or a glob pattern stands for, sorted by name.

    Raises:
        DataError: there are none.
    """
    place = Path(path).expanduser()
    if place.is_file():
        return [place]
    if place.is_dir():
        found = [file for file in place.rglob("*") if file.is_file() and not _hidden(file.relative_to(place))]
        found = [file for file in found if suffix(file) in FORMATS] or found
    else:
        found = [Path(file) for file in glob.glob(str(place), recursive=True) if Path(file).is_file()]
    if not found:
        raise DataError(f"there are no data files at {path}", "Set data.path to a file, a folder or a glob pattern.")
    return sorted(found)


def _hidden(file: Path) -> bool:
    return any(part.startswith((".", "_")) for part in file.parts)


def suffix(file: Path) -> str:
    """The suffix that tells the format: `.jsonl` of `a.jsonl.gz`."""
    return (Path(file.stem) if file.suffix in COMPRESSIONS else file).suffix.lower()


def format_of(files: list[Path], given: str | None) -> str:
    """text, jsonl, csv, parquet or arrow: as given, or by suffix. Whatever has another suffix is taken for text.

    Raises:
        DataError: the files are of several formats, or the given one is not known.
    """
    formats = {given} if given else {FORMATS.get(suffix(file), "text") for file in files}
    if len(formats) > 1:
        raise DataError(f"the files beside {files[0]} have different formats", "Choose some of them with a glob pattern.")
    (name,) = formats
    if name not in FORMATS.values():
        raise DataError(
            f"there is no format {name!r}", f"data.source.format is one of {', '.join(sorted(set(FORMATS.values())))}."
        )
    return name


def is_text(file: Path) -> bool:
    """Whether it is one plain text file."""
    return file.is_file() and file.suffix not in COMPRESSIONS and FORMATS.get(suffix(file), "text") == "text"


def by_label(path: str) -> dict[str, list[Path]]:
    """The files of each split, where a folder is split already: `train.txt`, `valid-00001-of-00002.parquet`, `test/a.csv`.

    Files without such a name are not used when others have one. Empty when none has, or when `path` is no folder.
    """
    place = Path(path).expanduser()
    labelled: dict[str, list[Path]] = {}
    for file in find(path) if place.is_dir() else []:
        words = (re.split(r"[^a-z]", part.lower())[0] for part in reversed(file.relative_to(place).parts))
        label = next((LABELS[word] for word in words if word in LABELS), None)
        if label:
            labelled.setdefault(label, []).append(file)
    return labelled


def identity(files: list[Path]) -> list[list[str | int]]:
    """What changes when the content of the files does."""
    return [_known_by(file.resolve()) for file in files]


def _known_by(file: Path) -> list[str | int]:
    status = file.stat()
    if status.st_size <= HASHED_BYTES:
        return [file.name, hashlib.sha256(file.read_bytes()).hexdigest()]
    return [str(file), status.st_size, status.st_mtime_ns]
