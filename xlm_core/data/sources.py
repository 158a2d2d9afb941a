"""Raw rows: from the Hugging Face Hub, from files, or from a function. No code from the Hub is ever run.

`data.path` names the user's own copy, which takes the place of any source. A hub source may name a `function` beside the set:
`f(split, path)` gives the files of a copy that has a layout of its own, or None where it has not.
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import datasets
import numpy as np
from datasets import Dataset, IterableDataset
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from datasets.fingerprint import generate_random_fingerprint

from xlm_core.data import files
from xlm_core.data.dotted import code_hash, resolve
from xlm_core.data.offline import hub_access
from xlm_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from xlm_core.config import DataConfig, SplitConfig

Rows: TypeAlias = Dataset | IterableDataset
LOCAL_COPY = "Without network, set data.path to a local copy: a file, a folder or a glob pattern."
READ_ROWS = 1000
BUILDERS = {"text": "text", "jsonl": "json", "csv": "csv", "parquet": "parquet", "arrow": "arrow"}


def open_split(config: DataConfig, split: str, *, streaming: bool = False, scratch: Path | None = None) -> Rows:
    """The raw rows of a split, as the data config selects them.

    Args:
        config: its `source`, `path` and `splits[split]` are read.
        split: train, validation or test.
        streaming: return an `IterableDataset` that reads as it goes.
        scratch: folder for what is converted on the way; the Hugging Face cache when not given.

    Raises:
        DataError: the source, the split or the function is not there, or cannot be read.
    """
    chosen = split_config(config, split)
    with _quiet():
        rows = _open(config, split, streaming, scratch)
        return _selected(rows, chosen, split, _share(config, split))


def split_config(config: DataConfig, split: str) -> SplitConfig:
    if split not in config.splits:
        raise DataError(f"the data set {config.name} has no split {split}", f"It has {', '.join(config.splits)}.")
    return config.splits[split]


def identity(config: DataConfig, split: str) -> dict[str, Any]:
    """What changes when the raw rows of the split do: names, revision, content of files, code of the function."""
    chosen = split_config(config, split)
    selection = {"share": _share(config, split), "rows": chosen.rows, "shuffle": chosen.shuffle}
    known: dict[str, Any] = selection | {"arguments": dict(config.source.arguments)}
    if reads_files(config):
        paths = _files(config, split)
        return known | {"files": files.identity(paths), "format": files.format_of(paths, config.source.format)}
    source = config.source
    if source.kind == "function" and source.function:
        return known | {"function": source.function, "code": code_hash(source.function), "split": chosen.source}
    return known | {"hub": source.name, "subset": source.subset, "revision": source.revision, "split": chosen.source}


def reads_files(config: DataConfig) -> bool:
    return config.path is not None or config.source.kind == "files"


def file_format(config: DataConfig, split: str) -> str | None:
    """text, jsonl, csv, parquet or arrow; None where the rows do not come from files that XLM reads itself."""
    return files.format_of(_files(config, split), config.source.format) if reads_files(config) else None


def revision(rows: Rows) -> str | None:
    """The commit of the Hub that the rows were read from, if they were."""
    urls = " ".join(rows.info.download_checksums or {})
    found = re.search(r"@([0-9a-f]{40})/", urls)
    return found[1] if found else None


def collected(rows: IterableDataset, scratch: Path | None) -> Dataset:
    """The rows of a stream, written to disk as they come."""
    # A random fingerprint stops `datasets` from reusing what was read at another time.
    return Dataset.from_generator(partial(iter, rows), cache_dir=scratch, fingerprint=generate_random_fingerprint())


def _open(config: DataConfig, split: str, streaming: bool, scratch: Path | None) -> Rows:
    if reads_files(config):
        return _from_files(config, split, streaming, scratch)
    if config.source.kind == "function":
        return _from_function(config, split, streaming, scratch)
    if config.source.kind == "hub":
        return _from_hub(config, split, streaming)
    raise ConfigError(f"there is no source kind {config.source.kind!r}", "data.source.kind is one of hub, files, function.")


def _from_hub(config: DataConfig, split: str, streaming: bool) -> Rows:
    source, wanted = config.source, config.splits[split].source
    if source.name is None:
        raise ConfigError("a hub source needs a name", "Set data.source.name to ORG/NAME.")
    try:
        with hub_access():
            rows = datasets.load_dataset(
                source.name, source.subset, split=wanted, revision=source.revision, streaming=streaming, **source.arguments
            )
    except DatasetNotFoundError as error:
        hint = "Check data.source.name and data.source.revision; log in with `hf auth login` if it is private."
        raise DataError(f"the data set {source.name} is not on the Hugging Face Hub", hint) from error
    except (ConnectionError, OSError) as error:
        raise DataError(f"the data set {source.name} cannot be read from the Hugging Face Hub: {error}", LOCAL_COPY) from error
    except (ValueError, TypeError, RuntimeError) as error:  # no such split, subset or argument, or a set that is a script
        raise DataError(f"the data set {source.name} cannot be read: {error}", LOCAL_COPY) from error
    return cast(Rows, rows)


def _files(config: DataConfig, split: str) -> list[Path]:
    path = _path(config)
    if config.source.kind == "hub" and config.source.function is not None:
        own = resolve(config.source.function)(config.splits[split].source, path)
        if own is not None:
            return list(own)
    labelled = files.by_label(path)
    if labelled:
        label = _label(config, split, labelled)
        if label not in labelled:
            raise DataError(f"{path} has no files of the split {label}", f"It has {', '.join(labelled)}.")
        return labelled[label]
    names = sorted({chosen.source for chosen in config.splits.values()})
    if len(names) > 1:
        raise DataError(f"{path} does not say which files are {' and which '.join(names)}", "Name them so, as in train.jsonl.")
    return files.find(path)


def _path(config: DataConfig) -> str:
    path = config.path or config.source.path
    if path is None:
        raise DataError(f"the data set {config.name} needs a file", "Set data.path to a file, a folder or a glob pattern.")
    return path


def _label(config: DataConfig, split: str, labelled: Mapping[str, object]) -> str:
    """The files' own division into splits wins over the one in the config."""
    source = config.splits[split].source
    return split if split in labelled else files.LABELS.get(source, source)


def _share(config: DataConfig, split: str) -> list[float]:
    """The configured share, or everything where a folder of labelled files gives the split files that no other split reads."""
    share = [float(edge) for edge in config.splits[split].share]
    if len(share) != 2 or not 0 <= share[0] <= share[1] <= 1:
        raise ConfigError(f"data.splits.{split}.share is {share}", "It is two fractions between 0 and 1, start and end.")
    labelled = files.by_label(_path(config)) if reads_files(config) else {}
    users = Counter(_label(config, name, labelled) for name in config.splits)
    return [0.0, 1.0] if labelled and users[_label(config, split, labelled)] == 1 else share


def _from_files(config: DataConfig, split: str, streaming: bool, scratch: Path | None) -> Rows:
    paths = _files(config, split)
    kind = files.format_of(paths, config.source.format)
    options: dict[str, Any] = {"sep": "\t"} if files.suffix(paths[0]) == ".tsv" else {}
    options |= {
        "data_files": [str(path.resolve()) for path in paths],
        "cache_dir": scratch,
        "streaming": streaming,
    }
    try:
        if kind == "arrow" and not streaming:
            return datasets.concatenate_datasets([Dataset.from_file(str(path)) for path in paths])
        return cast(Rows, datasets.load_dataset(BUILDERS[kind], split="train", **options, **_arguments(config)))
    except (DatasetGenerationError, ValueError, TypeError, OSError) as error:
        hint = "Text is UTF-8, JSON has one object a line, CSV has a header line."
        raise DataError(f"{paths[0]} cannot be read as {kind}: {error.__cause__ or error}", hint) from error


def _arguments(config: DataConfig) -> dict[str, Any]:
    """Those of the source, with `features` as the type of each column. A CSV file does not say which digits are text."""
    arguments = dict(config.source.arguments)
    if types := arguments.get("features"):
        arguments["features"] = datasets.Features({name: datasets.Value(kind) for name, kind in types.items()})
    return arguments


def _from_function(config: DataConfig, split: str, streaming: bool, scratch: Path | None) -> Rows:
    if config.source.function is None:
        raise ConfigError("a function source needs a function", "Set data.source.function to its dotted path.")
    name, wanted = config.splits[split].source, _wanted(config, split)
    arguments = dict(config.source.arguments)
    if wanted is not None and isinstance(arguments.get(name), int):
        arguments[name] = min(arguments[name], wanted)
    call = partial(resolve(config.source.function), name, **arguments)
    made = call()
    if isinstance(made, Mapping):
        made = Dataset.from_dict(dict(made))
    if isinstance(made, Dataset):
        return made.to_iterable_dataset() if streaming else made
    rows = IterableDataset.from_generator(call)
    if streaming:
        return rows
    return collected(rows if wanted is None else rows.take(wanted), scratch)


def _wanted(config: DataConfig, split: str) -> int | None:
    """How many rows of a split are used, where they are the first of all."""
    chosen = config.splits[split]
    return chosen.rows if chosen.shuffle is None and _share(config, split) == [0.0, 1.0] else None


def _selected(rows: Rows, chosen: SplitConfig, split: str, share: list[float]) -> Rows:
    if isinstance(rows, IterableDataset):
        if chosen.shuffle is not None:
            hint = "Give the splits files of their own, or set data.streaming=false."
            raise DataError(f"the split {split} is a share of shuffled rows, and a stream cannot be shuffled as a whole", hint)
        if share == [0.0, 1.0]:
            return rows if chosen.rows is None else _span(rows, 0, chosen.rows)
    total = _count(rows)
    whole = round if chosen.shuffle is None else math.ceil
    start, stop = (whole(fraction * total) for fraction in share)
    if chosen.rows is not None:
        stop = min(stop, start + chosen.rows)
    if stop <= start:
        raise DataError(f"the split {split} has no rows: {start} to {stop} of {total}", f"Change data.splits.{split}.")
    if isinstance(rows, IterableDataset):
        return _span(rows, start, stop)
    if chosen.shuffle is None:
        return rows.select(range(start, stop))
    return rows.select(np.random.default_rng(chosen.shuffle).permutation(total)[start:stop])


def _span(rows: IterableDataset, start: int, stop: int) -> IterableDataset:
    """Some rows of a stream, as one shard: where there are more, `datasets` would take a part of each, and so other rows."""
    return IterableDataset.from_generator(_rows_between, gen_kwargs={"rows": rows, "start": start, "stop": stop})


def _rows_between(rows: IterableDataset, start: int, stop: int) -> Iterator[dict[str, Any]]:
    # Read in batches: a plain iteration would be divided among the workers of a loader.
    for batch in rows.skip(start).take(stop - start).iter(READ_ROWS):
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))


def _count(rows: Rows) -> int:
    """How many rows there are. A stream is read through once for it, where the Hub does not say."""
    if isinstance(rows, Dataset):
        return len(rows)
    known = (rows.info.splits or {}).get(str(rows.split))
    if known and known.num_examples:
        return int(known.num_examples)
    return sum(batch.num_rows for batch in rows.with_format("arrow").iter(READ_ROWS))


@contextmanager
def _quiet() -> Iterator[None]:
    """Progress bars of `datasets` on a terminal only."""
    silenced = not sys.stderr.isatty() and datasets.are_progress_bars_disabled() is False
    if silenced:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if silenced:
            datasets.enable_progress_bars()
