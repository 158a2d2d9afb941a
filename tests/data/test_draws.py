import pickle
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, concatenate_datasets

from xlm_core.data.draws import Draws
from xlm_core.data.order import Order

RNG = np.random.default_rng(3)
ROWS = [
    {"input_ids": RNG.integers(0, 60_000, RNG.integers(0, 9)).tolist(), "prompt_ids": RNG.integers(0, 9, 3).tolist()}
    for _ in range(50)
]
SCHEMA = pa.schema({"input_ids": pa.list_(pa.uint16()), "prompt_ids": pa.list_(pa.uint16())})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Several files of several record batches, one of them empty."""
    parts = []
    for part, edges in enumerate([(0, 7, 7, 20), (20, 21), (21, 40, 50)]):
        path = str(tmp_path_factory.mktemp("arrow") / f"{part}.arrow")
        with pa.ipc.new_stream(path, SCHEMA) as writer:
            for start, stop in pairwise(edges):
                writer.write_batch(pa.RecordBatch.from_pylist(ROWS[start:stop], schema=SCHEMA))
        parts.append(Dataset.from_file(path))
    return concatenate_datasets(parts)


def plain(examples):
    return [{name: value if name == "draw" else value.tolist() for name, value in example.items()} for example in examples]


def test_items_are_the_rows_and_carry_their_draw(dataset):
    draws = Draws(dataset)
    assert len(draws) == 50
    wanted = [49, 0, 20, 20, 7, 21]
    assert plain(draws.__getitems__(wanted)) == [{"draw": row, **ROWS[row]} for row in wanted]
    assert plain([draws[33]]) == [{"draw": 33, **ROWS[33]}]


def test_an_order_maps_draws_to_rows_epoch_after_epoch(dataset):
    order = Order(50, 4)
    wanted = np.arange(120)
    found = plain(Draws(dataset, order).__getitems__(wanted.tolist()))
    assert found == [{"draw": draw, **ROWS[row]} for draw, row in zip(wanted.tolist(), order(wanted).tolist(), strict=True)]


def test_ids_are_arrays_of_their_own(dataset):
    draws = Draws(dataset)
    first = draws[3]["input_ids"]
    assert first.dtype == np.int64
    first += 1
    assert plain([draws[3]])[0]["input_ids"] == ROWS[3]["input_ids"]


@pytest.mark.parametrize("rows", [range(5, 33), [9, 2, 30, 2]])
def test_selections_work(dataset, rows):
    draws = Draws(dataset.select(rows))
    assert plain(draws.__getitems__(range(len(rows)))) == [{"draw": n, **ROWS[row]} for n, row in enumerate(rows)]
    assert draws.lengths().tolist() == [sum(map(len, ROWS[row].values())) for row in rows]


def test_lengths_count_all_ids(dataset):
    assert Draws(dataset).lengths().tolist() == [len(row["input_ids"]) + 3 for row in ROWS]


def test_it_can_be_sent_to_a_worker(dataset):
    draws = Draws(dataset, Order(50, 1))
    fresh = len(pickle.dumps(draws))
    draws.__getitems__(range(50))
    assert len(pickle.dumps(draws)) < fresh + 1000  # the rows stay on disk
    assert plain(pickle.loads(pickle.dumps(draws)).__getitems__([0, 60])) == plain(draws.__getitems__([0, 60]))
