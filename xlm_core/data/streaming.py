"""Training on a stream: for sets that do not fit on a disk. What is read is processed as it comes.

The shards of the set are divided over ranks and workers, so the order depends on their numbers; with the same numbers it
repeats. A resumed run reads its way to the place where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import cast

import torch.utils.data
from datasets import IterableDataset
from datasets.distributed import split_dataset_by_node

from xlm_core.canvas import Specials
from xlm_core.data.order import Division
from xlm_core.data.packing import Packer
from xlm_core.data.preprocessing import Preprocessing, Processed
from xlm_core.data.ragged import Ragged
from xlm_core.errors import DataError
from xlm_core.protocols import Example

READ_ROWS = 256
"""Raw rows that are processed at once."""


@dataclass(frozen=True)
class StreamedBatches(torch.utils.data.IterableDataset[list[Example]]):
    """The micro-batches of one rank, without end, numbered as in `BatchStream`.

    Args:
        rows: the raw rows.
        preprocessing: makes rows of ids of them.
        division: of a step into micro-batches.
        workers: of the loader that this is given to; 0 for none. They take turns, so worker w has every workers-th micro-batch.
        seed: of the order.
        buffer: how many rows the shuffle looks ahead.
        rank, world: which of how many ranks this is.
        start_step: the first step.
    """

    rows: IterableDataset
    preprocessing: Preprocessing
    division: Division
    workers: int
    seed: int
    buffer: int
    rank: int = 0
    world: int = 1
    start_step: int = 0

    def __iter__(self) -> Iterator[list[Example]]:
        start, turns = self.start_step * self.division.count, max(self.workers, 1)
        worker = torch.utils.data.get_worker_info()
        turn = (start + (worker.id if worker else 0)) % turns
        examples = self._examples(self.rank * turns + turn, self.world * turns)
        for number in count(turn, turns):
            batch = list(islice(examples, self.division.size))
            if number >= start:
                first = self.division.first_draw(number, self.rank, self.world)
                yield [cast(Example, {"draw": first + place, **example}) for place, example in enumerate(batch)]

    def _examples(self, reader: int, readers: int) -> Iterator[dict[str, object]]:
        """What one of so many readers reads, epoch after epoch."""
        config = self.preprocessing.config
        packer = Packer(config.length, Specials.of(self.preprocessing.tokenizer).eos) if config.packing else None
        stream = self._part(reader, readers)
        for epoch in count():
            stream.set_epoch(epoch)
            read = made = 0
            for rows in stream.iter(READ_ROWS):
                processed = self.preprocessing(rows, read)
                read, made = read + processed.counts["rows_in"], made + processed.counts["rows_out"]
                yield from _rows(processed, packer)
            if not made:
                hint = "Look at the source, or use fewer ranks or data.workers, or data.streaming=false."
                raise DataError(f"the stream has no rows for reader {reader + 1} of {readers}", hint)

    def _part(self, reader: int, readers: int) -> IterableDataset:
        """Whole shards where there are enough of them; otherwise every reader reads all and keeps its share."""
        if self.rows.num_shards >= readers:
            return self.rows.shard(readers, reader, contiguous=False).shuffle(seed=self.seed, buffer_size=self.buffer)
        return split_dataset_by_node(self.rows.shuffle(seed=self.seed, buffer_size=self.buffer), reader, readers)


def _rows(processed: Processed, packer: Packer | None) -> Iterator[dict[str, object]]:
    columns: dict[str, Ragged] = processed.columns
    if packer is None:
        names = list(columns)
        rows = zip(*(column.rows() for column in columns.values()), strict=True)
    else:
        packed = packer.add(columns["input_ids"])
        names, rows = list(packed._fields), zip(*packed, strict=True)
    for row in rows:
        yield dict(zip(names, row, strict=True))
