"""Prediction files: every row once, and two jobs that write the same file do not get into each other's way."""

from __future__ import annotations

import json

from xlm_core.evaluation.predictions import PredictionWriter, join


def lines(path):
    return [json.loads(line)["row"] for line in path.read_text().splitlines()]


def test_parts_of_ranks_become_one_file_in_the_order_of_the_rows(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    writers = [PredictionWriter(path, job=7, rank=rank) for rank in range(3)]
    for row in range(10):
        writers[row % 2].write([{"row": 9 - row}])
    for writer in writers:
        writer.close()
    assert not path.exists()
    join(path, job=7, world=3)
    assert lines(path) == list(range(10))
    assert list(path.parent.iterdir()) == [path]


def test_two_jobs_that_write_one_file_at_once_leave_the_whole_of_the_last(tmp_path):
    path = tmp_path / "rows.jsonl"
    first, second = (PredictionWriter(path, job=job, rank=0) for job in (1, 2))
    first.write({"row": row} for row in range(5))
    second.write({"row": row} for row in range(8))
    for job, writer in ((2, second), (1, first)):
        writer.close()
        join(path, job=job, world=1)
        assert lines(path) == list(range({1: 5, 2: 8}[job]))
    assert list(tmp_path.iterdir()) == [path]
