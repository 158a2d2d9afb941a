from dataclasses import replace

import pytest

from xlm_core.config import DataConfig, SourceConfig, SplitConfig, TokenizerConfig
from xlm_core.data import tokenizers


@pytest.fixture(scope="session")
def byte_tokenizer():
    return tokenizers.build(TokenizerConfig(kind="byte"))


@pytest.fixture
def text_config(tmp_path):
    """Makes the config of a text file with given lines; other fields of DataConfig by name."""

    def make(lines, *, name="text.txt", **fields):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        config = DataConfig(
            name="text",
            layout="lm",
            path=str(path),
            source=SourceConfig(kind="files"),
            preprocess="xlm_core.tasks.text.preprocess",
            length=16,
            splits={"train": SplitConfig()},
            processes=1,
        )
        return replace(config, **fields)

    return make


@pytest.fixture
def user_module(tmp_path, monkeypatch, request):
    """Writes a module of the user's, and returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(code):
        name = f"user_{abs(hash((request.node.nodeid, code)))}"
        (tmp_path / f"{name}.py").write_text(code)
        return name

    return write
