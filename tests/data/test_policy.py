"""The policy of a text: equal where likelihoods are comparable, and different in the facet that differs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xlm_core.config import SplitConfig, TokenizerConfig
from xlm_core.data import tokenizers
from xlm_core.data.policy import policy


@pytest.fixture
def config(text_config):
    return text_config(["one", "two"], splits={"train": SplitConfig(), "test": SplitConfig(rows=1)})


def of(config, tokenizer, split="test", specials=("bos", "eos"), exact_bytes=True):
    return policy(config, tokenizer, split, specials, exact_bytes=exact_bytes)


def test_what_shapes_no_text_is_not_in_it(config, byte_tokenizer):
    other = replace(config, title="other", metrics=["length"], workers=3, bucketing=True, shuffle_buffer=5, processes=2)
    assert of(config, byte_tokenizer) == of(other, byte_tokenizer, specials=("eos", "bos"))


CHANGES = {
    "wrapping": [{"length": 17}, {"truncate": True}, {"packing": True}],
    "detokenizer": [{"preprocess": "xlm_core.tasks.lm1b.preprocess"}, {"arguments": {"column": "other"}}],
    "text": [{"splits": {"test": SplitConfig(rows=2)}}, {"name": "mine"}],
}


@pytest.mark.parametrize(("facet", "change"), [(facet, change) for facet, changes in CHANGES.items() for change in changes])
def test_a_change_shows_in_its_facet_and_in_the_hash(facet, change, config, byte_tokenizer):
    before, after = of(config, byte_tokenizer), of(replace(config, **change), byte_tokenizer)
    assert {name for name in before if before[name] != after[name]} == {facet, "hash"}


def test_so_do_the_tokenizer_the_specials_and_the_content_of_the_file(config, byte_tokenizer, text_config):
    before = of(config, byte_tokenizer)
    chars = tokenizers.build(TokenizerConfig(kind="char", alphabet="abc"))
    decoded = [of(config, tokenizer, exact_bytes=False)["bytes"] for tokenizer in (byte_tokenizer, chars)]
    assert len({before["bytes"], *decoded}) == 3
    changed = {"tokenizer": of(config, chars), "specials": of(config, byte_tokenizer, specials=("eos",))}
    text_config(["one", "three"])
    changed["text"] = of(config, byte_tokenizer)
    assert of(config, byte_tokenizer)["text"]["revision"] is None
    moved = policy(config, byte_tokenizer, "test", ("bos", "eos"), exact_bytes=True, revision="0" * 40)
    assert {name for name in moved if moved[name] != changed["text"][name]} == {"text", "hash"}
    for facet, after in changed.items():
        assert {name for name in before if before[name] != after[name]} == {facet, "hash"}
