"""Prepared data: Arrow files of ids, kept in a folder whose name is made of everything that shapes them.

The same source, code, tokenizer and options give the same folder, and its being there means that it is complete: it is written
under another name and renamed when done, under a lock. An interrupted preparation leaves a `.partial` folder, from which the
next one goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import pyarrow as pa
from datasets import Dataset, IterableDataset
from filelock import FileLock
from numpy.typing import NDArray

from xlm_core.canvas import Specials
from xlm_core.data import sources, tokenizers
from xlm_core.data.dotted import code_hash
from xlm_core.data.packing import Packed, Packer
from xlm_core.data.preprocessing import Preprocessing, arguments_of
from xlm_core.data.ragged import Ragged
from xlm_core.data.shards import Part, Preparation, Progress, write_parts
from xlm_core.errors import DataError, XlmError

if TYPE_CHECKING:
    from xlm_core.config import DataConfig
    from xlm_core.protocols import Tokenizer

FORMAT = 1
"""Raise it when the same key would give other data."""
MANIFEST = "manifest.json"


def cache_root() -> Path:
    """`$XLM_CACHE`, or `~/.cache/xlm`."""
    return Path(os.environ.get("XLM_CACHE") or "~/.cache/xlm").expanduser()


def prepare(
    config: DataConfig, tokenizer: Tokenizer, split: str, *, cache: Path | None = None, progress: Progress | None = None
) -> Dataset:
    """The rows of a split as columns of ids; made at the first call, memory-mapped from disk at every other.

    Args:
        config: what the data are.
        tokenizer: turns text into ids.
        split: train, validation or test.
        cache: folder of all prepared data; `cache_root()` when not given.
        progress: called as (rows done, rows in all) while data are made.

    Returns:
        `input_ids`, in the layouts with a prompt `prompt_ids`, and in packed data `segment_ids`: lists of unsigned 16-bit or of
        32-bit integers.

    Raises:
        DataError: the source cannot be read, the preprocessing fails, or a row does not fit.
    """
    key = ingredients(config, tokenizer, split)
    folder = folder_of(config, key, cache)
    if not (folder / MANIFEST).is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not (folder / MANIFEST).is_file():
                _make_or_clean(Preprocessing(config, tokenizer, split), key, folder, progress or _silent)
    return _opened(folder)


def manifest(config: DataConfig, tokenizer: Tokenizer, split: str, *, cache: Path | None = None) -> dict[str, Any] | None:
    """What is known of a prepared split: its key, `counts` of rows and tokens, revision, time and folder. None if not made."""
    file = folder_of(config, ingredients(config, tokenizer, split), cache) / MANIFEST
    return json.loads(file.read_text()) | {"folder": str(file.parent)} if file.is_file() else None


def ingredients(config: DataConfig, tokenizer: Tokenizer, split: str) -> dict[str, Any]:
    """Everything that shapes the prepared rows of a split."""
    return {
        "format": FORMAT,
        "source": sources.identity(config, split),
        "preprocess": config.preprocess,
        "code": code_hash(config.preprocess) if config.preprocess else None,
        "arguments": arguments_of(config, split),
        "tokenizer": tokenizers.fingerprint(tokenizer),
        "layout": config.layout,
        "length": config.length,
        "prompt_length": config.prompt_length,
        "truncate": config.truncate,
        "packing": config.packing,
    }


def folder_of(config: DataConfig, key: dict[str, Any], cache: Path | None = None) -> Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:20]
    return (cache or cache_root()) / "data" / re.sub(r"\W", "_", config.name) / digest


def _silent(done: int, total: int) -> None:
    pass


def _make_or_clean(preprocessing: Preprocessing, key: dict[str, Any], folder: Path, progress: Progress) -> None:
    """What an error leaves is of no use: its remedy changes the key."""
    try:
        _make(preprocessing, key, folder, progress)
    except XlmError:
        shutil.rmtree(folder.with_suffix(".partial"), ignore_errors=True)
        raise


def _make(preprocessing: Preprocessing, key: dict[str, Any], folder: Path, progress: Progress) -> None:
    began = time.monotonic()
    partial = folder.with_suffix(".partial")
    ready = partial / "parts"
    ready.mkdir(parents=True, exist_ok=True)
    rows = _raw(preprocessing, partial / "source")
    preparation = Preparation(rows, preprocessing, pa.uint16() if len(preprocessing.tokenizer) <= 1 << 16 else pa.int32())
    parts = write_parts(preparation, ready, preprocessing.config.processes or _cores(), progress)
    counts = sum((part.counts for part in parts), Counter[str]())
    if not counts["rows_out"]:
        message = f"the split {preprocessing.split} of {preprocessing.config.name} has no rows left after preparation"
        raise DataError(message, f"Of {counts['rows_in']} raw rows, {counts['blank']} are blank.")
    if preprocessing.config.packing:
        ready = partial / "packed"
        ready.mkdir(exist_ok=True)
        counts["rows_out"], counts["tokens"] = _pack(parts, preprocessing, preparation.dtype, ready / "rows.arrow")
    written = {
        "name": preprocessing.config.name,
        "split": preprocessing.split,
        "key": key,
        "revision": sources.revision(rows),
        "counts": dict(counts),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - began, 1),
    }
    (ready / MANIFEST).write_text(json.dumps(written, indent=2, default=str))
    os.replace(ready, folder)
    shutil.rmtree(partial)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _raw(preprocessing: Preprocessing, scratch: Path) -> Dataset:
    """The raw rows on disk. Of a set that is streamed because it is large, only those of this split are fetched."""
    streaming = preprocessing.config.streaming and not sources.reads_files(preprocessing.config)
    rows = sources.open_split(preprocessing.config, preprocessing.split, streaming=streaming, scratch=scratch)
    if isinstance(rows, IterableDataset):
        return sources.collected(rows, scratch)
    return rows


def _pack(parts: list[Part], preprocessing: Preprocessing, dtype: pa.DataType, file: Path) -> tuple[int, int]:
    """Write the packed rows of all parts, in order; returns how many rows and tokens."""
    packer = Packer(preprocessing.config.length, Specials.of(preprocessing.tokenizer).eos)
    schema = pa.schema({"input_ids": pa.list_(dtype), "segment_ids": pa.list_(pa.int32())})
    rows = tokens = 0
    with pa.ipc.new_stream(str(file), schema) as writer:
        for packed in _packed(parts, packer):
            columns = [_even(ids, field.type.value_type) for ids, field in zip(packed, schema, strict=True)]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            rows, tokens = rows + len(packed.input_ids), tokens + packed.input_ids.size
    return rows, tokens


def _packed(parts: list[Part], packer: Packer) -> Iterator[Packed]:
    for part in parts:
        with pa.memory_map(str(part.file)) as file:
            for batch in pa.ipc.open_stream(file):
                yield packer.add(Ragged.from_arrow(batch.column("input_ids")))
    yield packer.flush()


def _even(rows: NDArray[np.int64], dtype: pa.DataType) -> pa.ListArray:
    return Ragged(rows.ravel(), np.arange(len(rows) + 1) * rows.shape[1]).to_arrow(dtype)


def _opened(folder: Path) -> Dataset:
    try:
        files = [Dataset.from_file(str(file)) for file in sorted(folder.glob("*.arrow"))]
        return datasets.concatenate_datasets([file for file in files if len(file)])
    except (OSError, ValueError) as error:
        raise DataError(
            f"the prepared data in {folder} cannot be read: {error}", "Delete the folder; it is made again."
        ) from error
