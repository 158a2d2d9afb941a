import json
import multiprocessing
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from xlm_core.config import SourceConfig, TokenizerConfig
from xlm_core.data import shards, store, tokenizers
from xlm_core.errors import DataError

LINES = [f"line {n} {'x' * (n % 23)}" for n in range(300)]
LOGGING = """
import os
from xlm_core.tasks.text import preprocess as plain
def f(rows, tokenizer):
    with open({log!r}, "a") as file:
        file.write(f"{{os.getpid()}} {{len(rows['text'])}}\\n")
    {then}
    return plain(rows, tokenizer)
"""


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(shards, "PART_ROWS", 40)
    monkeypatch.setattr(shards, "BATCH_ROWS", 10)


@pytest.fixture
def logged(tmp_path, user_module):
    """Makes the name of a preprocessing function that logs how many rows it is given."""
    log = tmp_path / "log"

    def make(then="pass"):
        return f"{user_module(LOGGING.format(log=str(log), then=then))}.f"

    make.rows = lambda: sum(int(line.split()[1]) for line in log.read_text().splitlines()) if log.exists() else 0
    make.processes = lambda: {line.split()[0] for line in log.read_text().splitlines()}
    return make


def rows(dataset):
    return [list(row["input_ids"]) for row in dataset]


def expected(tokenizer, lines, length=16):
    ids = tokenizers.encode(tokenizer, [line for line in lines if line.strip()])
    return [row[start : start + length] for row in ids for start in range(0, len(row), length)]


def test_prepared_rows_are_the_encoded_lines_and_the_manifest_counts_them(text_config, byte_tokenizer, tmp_path):
    config = text_config([*LINES, "", " "])
    data = store.prepare(config, byte_tokenizer, "train", cache=tmp_path / "cache")
    truth = expected(byte_tokenizer, LINES)
    assert rows(data) == truth
    counts = store.manifest(config, byte_tokenizer, "train", cache=tmp_path / "cache")["counts"]
    long = sum(len(line) > 16 for line in LINES)
    assert counts == {
        "rows_in": 302, "blank": 2, "divided": long, "rows_out": len(truth), "tokens": sum(map(len, truth)),
    }  # fmt: skip


def test_a_second_call_does_no_work(text_config, byte_tokenizer, tmp_path, logged):
    config = text_config(LINES, preprocess=logged())
    first = store.prepare(config, byte_tokenizer, "train", cache=tmp_path / "cache")
    assert logged.rows() == 300
    again = store.prepare(config, byte_tokenizer, "train", cache=tmp_path / "cache")
    assert logged.rows() == 300
    assert rows(first) == rows(again)
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_several_processes_give_the_same_rows_in_order_and_say_how_far_they_are(
    text_config, byte_tokenizer, tmp_path, logged, monkeypatch
):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    config = text_config(LINES, preprocess=logged(), processes=2)
    seen = []
    data = store.prepare(
        config, byte_tokenizer, "train", cache=tmp_path, progress=lambda done, total: seen.append((done, total))
    )
    assert rows(data) == expected(byte_tokenizer, LINES)
    assert str(os.getpid()) not in logged.processes()
    assert len(seen) == 8
    assert seen[-1] == (300, 300)
    assert seen == sorted(seen)
    assert "TOKENIZERS_PARALLELISM" not in os.environ


def test_everything_that_shapes_the_data_gives_another_folder(text_config, byte_tokenizer, tmp_path, user_module):
    code = "def f(rows, tokenizer, **arguments):\n    return {'input_ids': [[7] for _ in rows['text']]}\n"
    module = user_module(code)
    base = text_config(LINES, preprocess=f"{module}.f")

    def folder(config, tokenizer=byte_tokenizer):
        return store.folder_of(config, store.ingredients(config, tokenizer, "train"), tmp_path)

    changed = [
        folder(replace(base, length=17)),
        folder(replace(base, truncate=True)),
        folder(replace(base, packing=True)),
        folder(replace(base, prompt_length=1)),
        folder(replace(base, layout="seq2seq")),
        folder(replace(base, arguments={"a": 1})),
        folder(replace(base, preprocess="xlm_core.tasks.text.preprocess")),
        folder(replace(base, splits={"train": replace(base.splits["train"], rows=5)})),
        folder(replace(base, splits={"train": replace(base.splits["train"], share=[0.0, 0.5])})),
        folder(base, tokenizers.build(TokenizerConfig(kind="char"))),
    ]
    same = folder(base)
    assert folder(base) == same
    for field in ({"workers": 3}, {"processes": 4}, {"bucketing": True}, {"predict": {"train": 3}}, {"monitor": "x"}):
        assert folder(replace(base, **field)) == same
    Path(base.path).write_text("other\n")
    changed.append(folder(base))
    (tmp_path / f"{module}.py").write_text(code.replace("[7]", "[8]"))
    changed.append(folder(base))
    assert len({same, *changed}) == 1 + len(changed)


@pytest.mark.parametrize(("processes", "victim"), [(1, "os.getpid()"), (2, "os.getppid()")])
def test_a_killed_preparation_leaves_nothing_that_is_used_and_the_next_one_goes_on(
    processes, victim, text_config, byte_tokenizer, tmp_path, logged
):
    marker = tmp_path / "kill"
    marker.touch()
    kill = f"os.path.exists({str(marker)!r}) and 'line 200 ' in ' '.join(rows['text']) + ' ' and os.kill({victim}, 9)"
    config = text_config(LINES, preprocess=logged(kill), processes=processes)
    cache = tmp_path / "cache"
    # a fork, so that it need not import everything again
    child = multiprocessing.get_context("fork").Process(
        target=store.prepare, args=(config, byte_tokenizer, "train"), kwargs={"cache": cache}
    )
    child.start()
    child.join(timeout=60)
    assert child.exitcode == -signal.SIGKILL
    assert store.manifest(config, byte_tokenizer, "train", cache=cache) is None
    before = logged.rows()
    finished = sum(40 for _ in cache.rglob("*.partial/parts/*.arrow"))
    assert finished >= 120
    marker.unlink()
    data = store.prepare(config, byte_tokenizer, "train", cache=cache)
    assert rows(data) == expected(byte_tokenizer, LINES)
    assert logged.rows() - before <= 300 - 120  # the parts that were finished were kept
    assert store.manifest(config, byte_tokenizer, "train", cache=cache)["counts"]["rows_in"] == 300
    assert not list(cache.rglob("*.partial"))


def test_concurrent_calls_prepare_once(text_config, byte_tokenizer, tmp_path, logged):
    config = text_config(LINES, preprocess=logged("import time; time.sleep(0.005)"))
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(rows(store.prepare(config, byte_tokenizer, "train", cache=tmp_path))))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected(byte_tokenizer, LINES)] * 3
    assert logged.rows() == 300


def test_packed_rows_join_documents_across_parts(text_config, byte_tokenizer, tmp_path):
    data = store.prepare(text_config(LINES, packing=True), byte_tokenizer, "train", cache=tmp_path)
    stream = [token for ids in tokenizers.encode(byte_tokenizer, LINES) for token in [*ids, 3]]
    packed = rows(data)
    assert packed == [stream[start : start + 16] for start in range(0, len(stream), 16)]
    for row in data:
        after_eos = np.cumsum([0, *(np.array(row["input_ids"][:-1]) == 3)])
        assert row["segment_ids"] == after_eos.tolist()
    counts = store.manifest(text_config(LINES, packing=True), byte_tokenizer, "train", cache=tmp_path)["counts"]
    assert (counts["rows_in"], counts["rows_out"], counts["tokens"]) == (300, len(packed), len(stream))


def test_a_row_that_does_not_fit_is_named_also_from_another_process(text_config, byte_tokenizer, tmp_path, user_module):
    module = user_module(
        "def f(rows, tokenizer):\n    ids = [[7] * (9 if 'line 250 ' in text + ' ' else 8) for text in rows['text']]\n"
        "    return {'input_ids': ids, 'prompt_ids': ids}\n"
    )
    config = text_config(LINES, preprocess=f"{module}.f", layout="seq2seq", length=8, prompt_length=20, processes=2)
    with pytest.raises(DataError) as caught:
        store.prepare(config, byte_tokenizer, "train", cache=tmp_path / "cache")
    assert "row 250 of the split train has 9 tokens" in caught.value.message
    assert caught.value.hint
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_a_process_that_is_killed_is_explained(text_config, byte_tokenizer, tmp_path, logged):
    config = text_config(LINES, preprocess=logged("os.kill(os.getpid(), 9)"), processes=2)
    with pytest.raises(DataError) as caught:
        store.prepare(config, byte_tokenizer, "train", cache=tmp_path)
    assert "data.processes" in caught.value.hint


def test_nothing_left_is_an_error_and_damage_is_explained(text_config, byte_tokenizer, tmp_path):
    with pytest.raises(DataError, match="no rows left"):
        store.prepare(text_config(["", " "]), byte_tokenizer, "train", cache=tmp_path)
    config = text_config(LINES)
    store.prepare(config, byte_tokenizer, "train", cache=tmp_path)
    folder = Path(store.manifest(config, byte_tokenizer, "train", cache=tmp_path)["folder"])
    next(folder.glob("*.arrow")).write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        store.prepare(config, byte_tokenizer, "train", cache=tmp_path)
    assert str(folder) in caught.value.message


def test_ids_of_large_vocabularies_are_kept(text_config, tmp_path, user_module):
    words = tokenizers.build(TokenizerConfig(kind="numbers", size=70_000))
    config = text_config(["69999 1", "65536"])
    assert rows(store.prepare(config, words, "train", cache=tmp_path)) == [[70_006, 8], [65_543]]


def test_a_streamed_set_is_collected_for_evaluation(byte_tokenizer, tmp_path, user_module, text_config):
    module = user_module("def f(split):\n    yield from ({'text': f'{split} {n}'} for n in range(100))\n")
    config = replace(
        text_config([]), path=None, source=SourceConfig(kind="function", function=f"{module}.f"), streaming=True, length=100
    )
    config.splits["train"].rows = 3
    data = store.prepare(config, byte_tokenizer, "train", cache=tmp_path)
    assert rows(data) == tokenizers.encode(byte_tokenizer, ["train 0", "train 1", "train 2"])


def test_the_cache_is_where_the_environment_says(monkeypatch, text_config, byte_tokenizer, tmp_path):
    monkeypatch.setenv("XLM_CACHE", str(tmp_path / "here"))
    config = text_config(LINES)
    store.prepare(config, byte_tokenizer, "train")
    found = store.manifest(config, byte_tokenizer, "train")
    assert found["folder"].startswith(str(tmp_path / "here"))
    assert json.loads((Path(found["folder"]) / "manifest.json").read_text())["key"] == found["key"]
