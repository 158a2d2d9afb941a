"""OpenWebText: pages one a row, and packed."""

from __future__ import annotations

from xlm_core import composition

EOS = 256


def texts(count, start=0):
    return [{"text": f"page {n} é"} for n in range(start, start + count)]


def ids(text):
    return list(text.encode())


def test_pages_are_rows_and_the_held_out_half_each(copy, prepared, byte_level):
    folder = copy(**{"train-00000_parquet": texts(6), "validation-00000_parquet": texts(4, 100)})
    told = f"tokenizer.name={byte_level}"
    assert [row["input_ids"] for row in prepared("owt", folder, "train", told)[0]] == [ids(f"page {n} é") for n in range(6)]
    test, validation = (prepared("owt", folder, split, told)[0] for split in ("test", "validation"))
    assert [row["input_ids"] for row in test] == [ids(f"page {n} é") for n in (100, 101)]
    assert [row["input_ids"] for row in validation] == [ids(f"page {n} é") for n in (102, 103)]


def test_a_page_that_is_too_long_is_cut_and_makes_one_row(copy, prepared, byte_level):
    folder = copy(train_parquet=[{"text": "a" * 1025}, {"text": "b" * 1024}], validation_parquet=texts(2))
    rows, _ = prepared("owt", folder, "train", f"tokenizer.name={byte_level}")
    assert [row["input_ids"] for row in rows] == [ids("a" * 1024), ids("b" * 1024)]


def test_packed_pages_are_one_stream_in_rows(copy, prepared, byte_level):
    folder = copy(part_jsonl=texts(40))
    told = (f"tokenizer.name={byte_level}", "data.length=32", "data.splits.train.share=[0,0.9]")
    rows, _ = prepared("owt_packed", folder, "train", *told)
    stream = [token for n in range(36) for token in [*ids(f"page {n} é"), EOS]]
    assert [token for row in rows for token in row["input_ids"]] == stream
    assert {len(row["input_ids"]) for row in rows[:-1]} == {32}
    for row in rows:
        ends = [n for n, token in enumerate(row["input_ids"]) if token == EOS]
        assert row["segment_ids"] == [sum(end < place for end in ends) for place in range(len(row["input_ids"]))]


def test_the_last_hundred_thousand_documents_are_held_out():
    splits = composition.check(composition.compose(["data=owt_packed"])).data.splits
    documents = 8_013_769
    edges = {name: [round(edge * documents) for edge in split.share] for name, split in splits.items()}
    assert edges == {
        "train": [0, documents - 100_000],
        "validation": [documents - 100_000, documents - 50_000],
        "test": [documents - 50_000, documents],
    }
