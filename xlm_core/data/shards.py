"""A large set is prepared in parts. Each is a file that is there when it is finished, so an interrupted preparation goes on."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import wait
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
from datasets import Dataset

from xlm_core.data.preprocessing import Preprocessing, Processed
from xlm_core.errors import DataError

PART_ROWS = 50_000
PART_BYTES = 128 << 20
BATCH_ROWS = 10_000
BATCH_BYTES = 4 << 20
Progress: TypeAlias = Callable[[int, int], None]
"""Called with the raw rows that are done and those that there are."""


@dataclass(frozen=True)
class Part:
    """Raw rows `start` to `stop`, processed into a file."""

    start: int
    stop: int
    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / f"{self.start:010d}-{self.stop:010d}.arrow"

    @property
    def counts_file(self) -> Path:
        return self.file.with_suffix(".json")

    @property
    def counts(self) -> Counter[str]:
        return Counter(json.loads(self.counts_file.read_text()))


@dataclass(frozen=True)
class Preparation:
    """What is made: the raw rows, how they are preprocessed, and the type that ids are stored in."""

    rows: Dataset
    preprocessing: Preprocessing
    dtype: pa.DataType

    @property
    def schema(self) -> pa.Schema:
        return pa.schema({name: pa.list_(self.dtype) for name in self.preprocessing.columns})

    def parts(self, folder: Path) -> list[Part]:
        """Parts of about equal size that depend on the rows alone."""
        count = min(max(-(-len(self.rows) // PART_ROWS), -(-self.rows.data.nbytes // PART_BYTES)), len(self.rows))
        edges = [len(self.rows) * n // count for n in range(count + 1)]
        return [Part(start, stop, folder) for start, stop in pairwise(edges)]

    def write(self, part: Part) -> Part:
        """Write the part's files, the one with the rows last."""
        counts: Counter[str] = Counter()
        scratch = part.file.with_suffix(f".{os.getpid()}")
        with pa.ipc.new_stream(str(scratch), self.schema) as writer:
            for processed in self._batches(part):
                counts += processed.counts
                writer.write_batch(self.record_batch(processed))
        part.counts_file.write_text(json.dumps(counts))
        os.replace(scratch, part.file)
        return part

    def record_batch(self, processed: Processed) -> pa.RecordBatch:
        return pa.record_batch([column.to_arrow(self.dtype) for column in processed.columns.values()], schema=self.schema)

    def _batches(self, part: Part) -> Iterator[Processed]:
        step = max(1, min(BATCH_ROWS, BATCH_BYTES * len(self.rows) // max(self.rows.data.nbytes, 1)))
        for start in range(part.start, part.stop, step):
            yield self.preprocessing(self.rows[start : min(start + step, part.stop)], start)


def write_parts(preparation: Preparation, folder: Path, processes: int, progress: Progress) -> list[Part]:
    """Write every part that is not there yet.

    Args:
        preparation: what is made.
        folder: where the parts are, and where those of an interrupted run may already be.
        processes: how many work; one part, or one process, is processed here.
    """
    parts = preparation.parts(folder)
    missing = [part for part in parts if not part.file.exists()]
    done = len(preparation.rows) - sum(part.stop - part.start for part in missing)
    for part in _written(preparation, missing, min(processes, len(missing))):
        done += part.stop - part.start
        progress(done, len(preparation.rows))
    return parts


def _written(preparation: Preparation, parts: list[Part], processes: int) -> Iterator[Part]:
    if processes <= 1:
        yield from map(preparation.write, parts)
        return
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    with _single_threaded_tokenizers(), ProcessPoolExecutor(processes, context, _start, (preparation,)) as pool:
        try:
            for future in as_completed([pool.submit(_write, part) for part in parts]):
                yield future.result()
        except BrokenProcessPool as error:
            hint = "It may have run out of memory: set data.processes to a smaller number."
            raise DataError("a process that prepared data was killed", hint) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _single_threaded_tokenizers() -> Iterator[None]:
    """Threads of the tokenizer do not survive a fork, and the processes are enough."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before


_preparation: Preparation


def _start(preparation: Preparation) -> None:
    global _preparation
    _preparation = preparation
    gc.freeze()  # what the parent had made stays: going through it again takes time, and copies its pages
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and decides
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot stop its workers, and they would hold its lock."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _write(part: Part) -> Part:
    return _preparation.write(part)
