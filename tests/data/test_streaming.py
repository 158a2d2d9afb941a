from dataclasses import replace
from itertools import islice

import pytest
from torch.utils.data import DataLoader

from xlm_core.config import SplitConfig
from xlm_core.data import sources, tokenizers
from xlm_core.data.order import Division
from xlm_core.data.preprocessing import Preprocessing
from xlm_core.data.streaming import StreamedBatches
from xlm_core.errors import DataError

DIVISION = Division(size=3, count=3)
FILES, ROWS = 4, 15


@pytest.fixture
def config(text_config, tmp_path):
    for file in range(FILES):
        made = text_config([f"{file}.{row}" for row in range(ROWS)], name=f"d/{file}.txt")
    return replace(made, path=str(tmp_path / "d"), streaming=True)


def batches(config, tokenizer, count, *, rank=0, world=1, workers=0, start_step=0, buffer=20):
    rows = sources.open_split(config, "train", streaming=True)
    preprocessing = Preprocessing(config, tokenizer, "train")
    stream = StreamedBatches(rows, preprocessing, DIVISION, workers, 7, buffer, rank, world, start_step)
    loader = DataLoader(stream, batch_size=None, num_workers=workers, collate_fn=list)
    found = [[(row["draw"], tokenizer.decode(row["input_ids"])) for row in batch] for batch in islice(loader, count)]
    del loader
    return found


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (2, 0), (1, 2)])
def test_a_share_of_several_files_is_read_by_all_readers_and_nothing_else_is(world, workers, config, byte_tokenizer):
    half = replace(config, splits={"train": SplitConfig(share=[0.0, 0.4])})
    own = [batches(half, byte_tokenizer, 8 * max(workers, 1), rank=rank, world=world, workers=workers) for rank in range(world)]
    seen = {text for found in own for batch in found for _, text in batch}
    whole = [f"{file}.{row}" for file in range(FILES) for row in range(ROWS)]
    assert seen == set(whole[: round(0.4 * len(whole))])


EVERY = sorted(f"{file}.{row}" for file in range(FILES) for row in range(ROWS))


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (2, 0), (3, 0), (1, 2), (2, 2), (5, 0)])
def test_each_row_comes_once_an_epoch_over_all_ranks_and_workers(world, workers, config, byte_tokenizer):
    turns = max(workers, 1)
    seen = []
    for rank in range(world):
        own = batches(config, byte_tokenizer, 20 * turns, rank=rank, world=world, workers=workers)
        for turn in range(turns):
            shards = len(range(rank * turns + turn, FILES, world * turns))
            epoch = shards * ROWS if world * turns <= FILES else len(EVERY) // world
            seen += [text for batch in own[turn::turns] for _, text in batch][:epoch]
    assert sorted(seen) == EVERY


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (2, 2)])
def test_draws_are_those_of_the_batch_stream(world, workers, config, byte_tokenizer):
    own = [batches(config, byte_tokenizer, 6, rank=rank, world=world, workers=workers) for rank in range(world)]
    for step in range(2):
        draws = [draw for batches in own for batch in batches[step * 3 : step * 3 + 3] for draw, _ in batch]
        assert sorted(draws) == list(range(step * 9 * world, (step + 1) * 9 * world))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("packing", [False, True])
def test_a_resumed_stream_is_the_rest_of_the_stream(workers, packing, config, byte_tokenizer):
    config = replace(config, packing=packing)
    whole = batches(config, byte_tokenizer, 24, workers=workers)
    assert batches(config, byte_tokenizer, 9, workers=workers, start_step=5) == whole[15:]  # not the first worker's turn


def test_epochs_have_orders_of_their_own_and_the_shuffle_looks_ahead(config, byte_tokenizer):
    texts = [text for batch in batches(config, byte_tokenizer, 60) for _, text in batch]
    epochs = [texts[start : start + 60] for start in (0, 60, 120)]
    assert [sorted(epoch) for epoch in epochs] == [EVERY] * 3
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != EVERY


def test_packed_streams_lose_no_token(config, byte_tokenizer):
    config = replace(config, packing=True)
    rows = sources.open_split(config, "train", streaming=True)
    stream = StreamedBatches(rows, Preprocessing(config, byte_tokenizer, "train"), DIVISION, 0, 7, 1)
    examples = [row for batch in islice(stream, 40) for row in batch]
    assert {len(row["input_ids"]) for row in examples} == {16}
    tokens = [token for row in examples for token in row["input_ids"].tolist()]
    documents = "".join("|" if token == 3 else chr(token - 7) for token in tokens).split("|")
    assert sorted(documents[:60]) == EVERY
    assert all(row["segment_ids"][0] == 0 for row in examples)


def test_rows_limit_a_stream_and_too_few_are_explained(config, byte_tokenizer):
    config = replace(config, splits={"train": SplitConfig(rows=2)})
    assert {text for batch in batches(config, byte_tokenizer, 4) for _, text in batch} == {"0.0", "0.1"}
    with pytest.raises(DataError, match="no rows for reader 3 of 3"):
        batches(config, byte_tokenizer, 1, rank=2, world=3)


def test_a_stream_of_nothing_but_blank_lines_ends(text_config, byte_tokenizer):
    config = text_config([" ", "", "  "], streaming=True)
    with pytest.raises(DataError, match="no rows"):
        batches(config, byte_tokenizer, 1)


def test_streamed_rows_are_cut_like_prepared_ones(config, byte_tokenizer):
    config = replace(config, length=2)
    (ids,) = {len(row) for row in tokenizers.encode(byte_tokenizer, EVERY[:1])}
    assert ids == 3
    found = [text for batch in batches(config, byte_tokenizer, 2, buffer=1) for _, text in batch]
    assert all(len(text) <= 2 for text in found)
    assert "".join(found[:2]) in EVERY
