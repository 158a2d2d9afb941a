import gzip
import importlib
import json
from dataclasses import replace
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xlm_core.config import DataConfig, SourceConfig, SplitConfig
from xlm_core.data import files, offline
from xlm_core.data.sources import identity, open_split
from xlm_core.errors import ConfigError, DataError

ROWS = [{"text": f"row {n}"} for n in range(10)]
SHARED = {
    "train": SplitConfig(share=[0.0, 0.75]),
    "validation": SplitConfig(share=[0.75, 1.0]),
    "test": SplitConfig(share=[0.75, 1.0]),
}


def arrow(path):
    with pa.ipc.new_stream(str(path), pa.schema({"text": pa.string()})) as writer:
        writer.write_table(pa.Table.from_pylist(ROWS))


WRITERS = {
    "a.txt": lambda path: path.write_text("".join(f"{row['text']}\n" for row in ROWS)),
    "a.txt.gz": lambda path: path.write_bytes(gzip.compress("".join(f"{row['text']}\n" for row in ROWS).encode())),
    "a.jsonl": lambda path: path.write_text("".join(json.dumps(row) + "\n" for row in ROWS)),
    "a.csv": lambda path: path.write_text("text,n\n" + "".join(f"{row['text']},1\n" for row in ROWS)),
    "a.tsv": lambda path: path.write_text("text\tn\n" + "".join(f"{row['text']}\t1\n" for row in ROWS)),
    "a.parquet": lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path),
    "a.arrow": arrow,
    "corpus.en-00001-of-00100": lambda path: path.write_text("".join(f"{row['text']}\n" for row in ROWS)),
}


def local(path, splits=None, **source):
    source.setdefault("kind", "files")
    return DataConfig(name="mine", layout="lm", path=str(path), source=SourceConfig(**source), splits=splits or SHARED)


def texts(config, split, tmp_path, **options):
    return [row["text"] for row in open_split(config, split, scratch=tmp_path / "scratch", **options)]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("streaming", [False, True])
def test_every_format_gives_its_rows(name, streaming, tmp_path):
    WRITERS[name](tmp_path / name)
    config = local(tmp_path / name, {"train": SplitConfig()})
    assert texts(config, "train", tmp_path, streaming=streaming) == [row["text"] for row in ROWS]


def test_shares_divide_the_rows_exactly_and_rows_limit_them(tmp_path):
    WRITERS["a.txt"](tmp_path / "a.txt")
    every = [row["text"] for row in ROWS]
    config = local(tmp_path / "a.txt")
    train, validation = texts(config, "train", tmp_path), texts(config, "validation", tmp_path)
    assert train + validation == every
    assert len(train) == 8
    limited = local(tmp_path / "a.txt", {"train": SplitConfig(share=[0.5, 1.0], rows=2)})
    assert texts(limited, "train", tmp_path) == every[5:7]


def write(folder, **contents):
    for name, lines in contents.items():
        file = folder / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        (file.with_suffix(".txt")).write_text("".join(f"{line}\n" for line in lines))


def test_a_folder_of_labelled_files_is_used_as_it_is_divided(tmp_path):
    write(tmp_path / "d", train_1=["a", "b"], train_2=["c", "d"], valid=["v"], test__part=["t"], notes=["n"])
    config = local(tmp_path / "d")
    assert texts(config, "train", tmp_path) == ["a", "b", "c", "d"]
    assert texts(config, "validation", tmp_path) == ["v"]
    assert texts(config, "test", tmp_path) == ["t"]


def test_shares_apply_where_two_splits_read_the_same_labelled_files(tmp_path):
    write(tmp_path / "d", train=["a", "b", "c", "d"], validation=["v"])
    config = local(tmp_path / "d")
    assert texts(config, "train", tmp_path) == ["a", "b", "c"]
    assert texts(config, "validation", tmp_path) == ["v"]
    assert texts(config, "test", tmp_path) == ["d"]


def test_a_folder_without_labels_and_a_glob_are_one_sequence_of_files(tmp_path):
    write(tmp_path / "d", b=["c", "d"], a=["a", "b"])
    whole = {"train": SplitConfig()}
    assert texts(local(tmp_path / "d", whole), "train", tmp_path) == ["a", "b", "c", "d"]
    assert texts(local(tmp_path / "d" / "[b]*.txt", whole), "train", tmp_path) == ["c", "d"]


def test_files_that_do_not_say_which_split_they_are_are_refused_for_sets_with_several(tmp_path):
    write(tmp_path / "d", a=["a"])
    config = local(tmp_path / "d", {"train": SplitConfig("train"), "test": SplitConfig("test")}, kind="hub", name="org/set")
    with pytest.raises(DataError, match="which files are test and which train"):
        open_split(config, "train")


@pytest.mark.parametrize("returned", ["generator", "columns"])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_function_gives_rows(returned, streaming, tmp_path, user_module):
    module = user_module(
        "def generator(split, n):\n    for i in range(n):\n        yield {'text': f'{split} {i}'}\n"
        "def columns(split, n):\n    return {'text': [f'{split} {i}' for i in range(n)]}\n"
    )
    source = SourceConfig(kind="function", function=f"{module}.{returned}", arguments={"n": 3})
    config = DataConfig(name="mine", layout="lm", source=source, splits={"test": SplitConfig("held_out", rows=2)})
    assert texts(config, "test", tmp_path, streaming=streaming) == ["held_out 0", "held_out 1"]


@pytest.mark.parametrize("rows", [40, 41, 59, 60, 133])
@pytest.mark.parametrize("size", [0.05, 0.07])
def test_a_shuffled_share_is_what_train_test_split_gives(rows, size, tmp_path):
    write(tmp_path, a=range(rows))
    published = datasets.Dataset.from_dict({"text": [str(n) for n in range(rows)]}).train_test_split(test_size=size, seed=7)
    splits = {
        "train": SplitConfig(share=[size, 1.0], shuffle=7),
        "validation": SplitConfig(share=[0.02, size], shuffle=7),
        "test": SplitConfig(share=[0.0, 0.02], shuffle=7),
    }
    found = {name: texts(local(tmp_path / "a.txt", splits), name, tmp_path) for name in splits}
    assert found["train"] == published["train"]["text"][:]
    assert found["test"] + found["validation"] == published["test"]["text"][:]


def test_rows_are_counted_after_the_shuffle(tmp_path):
    write(tmp_path, a=range(20))
    published = datasets.Dataset.from_dict({"text": [str(n) for n in range(20)]}).shuffle(seed=3)["text"][:]
    split = {"train": SplitConfig(share=[0.5, 1.0], shuffle=3, rows=4)}
    assert texts(local(tmp_path / "a.txt", split), "train", tmp_path) == published[10:14]


@pytest.mark.parametrize("name", ["a.txt", "a.parquet"])
def test_shares_of_a_stream_are_those_of_the_file(name, tmp_path):
    WRITERS[name](tmp_path / name)
    splits = {**SHARED, "few": SplitConfig(share=[0.5, 1.0], rows=2), "first": SplitConfig(rows=3)}
    config = local(tmp_path / name, splits)
    for split in splits:
        assert texts(config, split, tmp_path, streaming=True) == texts(config, split, tmp_path)


def test_a_stream_is_not_shuffled_as_a_whole(tmp_path):
    WRITERS["a.txt"](tmp_path / "a.txt")
    with pytest.raises(DataError, match="cannot be shuffled as a whole"):
        open_split(local(tmp_path / "a.txt", {"train": SplitConfig(shuffle=1)}), "train", streaming=True)


@pytest.mark.parametrize(
    "chosen, made",
    [(SplitConfig("held", rows=2), 2), (SplitConfig("held", rows=9), 5), (SplitConfig("held", [0.2, 1.0], 2), 5)],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_a_generator_makes_no_more_rows_than_are_used(chosen, made, lazy, tmp_path, user_module):
    body = "for i in range(held):\n        COUNT.append(i)\n        yield {'text': str(i)}\n"
    columns = "COUNT.extend(range(held))\n    return {'text': [str(i) for i in range(held)]}\n"
    module = user_module(f"COUNT = []\ndef f(split, held):\n    {body if lazy else columns}")
    source = SourceConfig(kind="function", function=f"{module}.f", arguments={"held": 5})
    config = DataConfig(name="mine", layout="lm", source=source, splits={"test": chosen})
    start = 1 if chosen.share[0] else 0
    assert texts(config, "test", tmp_path) == [str(i) for i in range(start, min(5, start + (chosen.rows or 5)))]
    assert len(importlib.import_module(module).COUNT) == made


def test_files_are_found_by_any_of_the_names_of_a_split(tmp_path):
    write(tmp_path / "d", train=["a"], valid=["b", "c"])
    splits = {"train": SplitConfig(), "test": SplitConfig("valid", [0.0, 0.5]), "validation": SplitConfig("valid", [0.5, 1.0])}
    config = local(tmp_path / "d", splits)
    assert [texts(config, name, tmp_path) for name in splits] == [["a"], ["b"], ["c"]]


def test_columns_of_a_csv_file_can_be_given_types(tmp_path):
    (tmp_path / "a.csv").write_text("text,n\n007,1\n" + "9" * 81 + ",2\n")
    config = local(tmp_path / "a.csv", {"train": SplitConfig()}, arguments={"features": {"text": "string", "n": "int64"}})
    assert texts(config, "train", tmp_path) == ["007", "9" * 81]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (local("/nowhere/a.txt"), "/nowhere/a.txt"),
        (local(Path(__file__), SHARED, format="jsonl"), "cannot be read as jsonl"),
        (local(Path(__file__), SHARED, format="xml"), "no format 'xml'"),
        (local(Path(__file__), SHARED, arguments={"bogus": 1}), "bogus"),
        (replace(local("x"), path=None), "needs a file"),
        (
            DataConfig(name="m", source=SourceConfig(kind="function", function="no_such.f"), splits=SHARED),
            "no_such.f does not import",
        ),
        (DataConfig(name="m", source=SourceConfig(kind="function", function="json.f"), splits=SHARED), "has no function f"),
        (DataConfig(name="m", source=SourceConfig(kind="function", function="f"), splits=SHARED), "not a dotted path"),
    ],
)
def test_what_is_not_there_is_named(config, words, tmp_path):
    with pytest.raises(DataError) as caught:
        open_split(config, "train", scratch=tmp_path)
    assert words in caught.value.message
    assert caught.value.hint


def test_splits_that_are_not_there_are_listed(tmp_path):
    with pytest.raises(DataError) as caught:
        open_split(local(tmp_path), "tset")
    assert "train, validation, test" in caught.value.hint
    write(tmp_path, test=["t"])
    with pytest.raises(DataError) as caught:
        open_split(local(tmp_path), "train")
    assert caught.value.hint == "It has test."


def test_wrong_options_are_config_errors(tmp_path):
    WRITERS["a.txt"](tmp_path / "a.txt")
    for share in ([0.5], [0.5, 0.2], [-0.5, 1.0], [0.0, 1.5], [0.0, 0.5, 1.0]):
        with pytest.raises(ConfigError, match="share is"):
            open_split(local(tmp_path / "a.txt", {"train": SplitConfig(share=share)}), "train", scratch=tmp_path)
    with pytest.raises(ConfigError, match="source kind 'web'"):
        open_split(DataConfig(name="m", source=SourceConfig(kind="web"), splits=SHARED), "train")


def test_an_empty_selection_is_an_error(tmp_path):
    WRITERS["a.txt"](tmp_path / "a.txt")
    with pytest.raises(DataError, match="has no rows"):
        open_split(local(tmp_path / "a.txt", {"train": SplitConfig(share=[0.5, 0.5])}), "train", scratch=tmp_path)


def test_without_network_the_hub_is_given_up_at_once(monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(offline, "resolvable", lambda url: False)
    monkeypatch.setattr("socket.getaddrinfo", never)
    config = DataConfig(name="m", source=SourceConfig(kind="hub", name="nobody-here/no-such-set"), splits=SHARED)
    with pytest.raises(DataError) as caught:
        open_split(config, "train")
    assert "nobody-here/no-such-set" in caught.value.message
    assert "data.path" in caught.value.hint


def test_a_hub_set_may_know_the_layout_of_a_local_copy(tmp_path, user_module):
    write(tmp_path / "copy", b=["b"], a=["a"])
    module = user_module("from pathlib import Path\ndef files(split, path):\n    return [Path(path) / f'{split}.txt']\n")
    splits = {"train": SplitConfig("b"), "test": SplitConfig("a")}
    config = local(tmp_path / "copy", splits, kind="hub", name="org/set", function=f"{module}.files")
    assert texts(config, "train", tmp_path) == ["b"]
    assert texts(config, "test", tmp_path) == ["a"]


def test_small_files_are_known_by_content_and_large_ones_by_place_size_and_time(tmp_path, monkeypatch):
    file, twin = tmp_path / "a.txt", tmp_path / "other" / "a.txt"
    file.write_text("one")
    twin.parent.mkdir()
    twin.write_text("one")
    known = files.identity([file])
    assert files.identity([twin]) == known
    twin.write_text("two")
    assert files.identity([twin]) != known
    monkeypatch.setattr(files, "HASHED_BYTES", 0)
    assert files.identity([file]) == [[str(file), 3, file.stat().st_mtime_ns]]


def test_the_identity_has_everything_that_chooses_rows(tmp_path, user_module):
    write(tmp_path, a=["a"])
    base = local(tmp_path / "a.txt")
    hub = DataConfig(name="m", source=SourceConfig(kind="hub", name="o/s", revision="1"), splits=SHARED)
    module = user_module("def f(split):\n    return {}\n")
    function = DataConfig(name="m", source=SourceConfig(kind="function", function=f"{module}.f"), splits=SHARED)
    same = [identity(base, "validation"), identity(base, "test")]
    assert same[0] == same[1]
    others = [
        identity(base, "train"),
        identity(local(tmp_path / "a.txt", {"validation": SplitConfig(share=[0.75, 1.0], rows=5)}), "validation"),
        identity(local(tmp_path / "a.txt", {"validation": SplitConfig(share=[0.5, 1.0])}), "validation"),
        identity(local(tmp_path / "a.txt", {"validation": SplitConfig(share=[0.75, 1.0], shuffle=1)}), "validation"),
        identity(replace(base, source=replace(base.source, arguments={"sample_by": "paragraph"})), "validation"),
        identity(hub, "validation"),
        identity(replace(hub, source=replace(hub.source, revision="2")), "validation"),
        identity(replace(hub, source=replace(hub.source, subset="x")), "validation"),
        identity(function, "validation"),
        same[0],
    ]
    assert len({json.dumps(other, sort_keys=True) for other in others}) == len(others)
