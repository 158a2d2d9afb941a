"""A data set as its config says, prepared from a local copy of the Hub's schema."""

from __future__ import annotations

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from xlm_core import composition
from xlm_core.data import store, tokenizers


def write_csv(rows, path):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


WRITERS = {
    ".parquet": lambda rows, path: pq.write_table(pa.Table.from_pylist(rows), path),
    ".jsonl": lambda rows, path: path.write_text("".join(json.dumps(row) + "\n" for row in rows)),
    ".txt": lambda rows, path: path.write_text("".join(f"{row['text']}\n" for row in rows)),
    ".csv": write_csv,
}


@pytest.fixture
def copy(tmp_path):
    """Writes a local copy: files by name, each a list of rows."""

    def write(**files):
        folder = tmp_path / "copy"
        folder.mkdir(exist_ok=True)
        for name, rows in files.items():
            stem, _, suffix = name.rpartition("_")
            WRITERS[f".{suffix}"](rows, folder / f"{stem}.{suffix}")
        return folder

    return write


@pytest.fixture
def prepared(tmp_path):
    """The rows of a split, and the tokenizer, from the shipped config and a local copy; more overrides behind."""

    def prepare(name, path, split, *overrides):
        overrides = [f"data={name}", f"data.path={path}", "data.processes=1", *overrides]
        config = composition.check(composition.compose(overrides))
        tokenizer = tokenizers.build(config.tokenizer)
        rows = store.prepare(config.data, tokenizer, split, cache=tmp_path / "cache")
        return [{column: list(ids) for column, ids in row.items()} for row in rows], tokenizer

    return prepare


@pytest.fixture(scope="session")
def byte_level(tmp_path_factory):
    """The folder of a tokenizer in place of GPT-2's or Qwen's: byte-level without merges. Byte b has the id b, EOS 256."""
    folder = tmp_path_factory.mktemp("tokenizer")
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in visible]
    symbols = {byte: chr(byte) for byte in visible} | {byte: chr(256 + n) for n, byte in enumerate(rest)}
    backend = Tokenizer(models.BPE(vocab={symbols[byte]: byte for byte in range(256)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>").save_pretrained(folder)
    return folder
