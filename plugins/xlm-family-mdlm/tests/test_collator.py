"""Canvases against ones written by hand: P is padding, M the mask, B is BOS, E is EOS."""

from __future__ import annotations

import pytest
import torch
from xlm_family_mdlm.collator import collator
from xlm_family_mdlm.config import CollatorConfig

from xlm_core.errors import ConfigError

P, M, E, B = 0, 2, 3, 4


def _bits(tensor):
    return tensor.int().tolist()


def _consistent(batch):
    """What holds of every batch."""
    shape = batch["input_ids"].shape
    assert all(batch[name].shape == shape for name in ("attention_mask", "free"))
    assert batch["input_ids"].dtype == batch["start"].dtype == batch["draw"].dtype == torch.int64
    assert batch["attention_mask"].dtype == batch["free"].dtype == torch.bool
    assert batch["start"].shape == batch["draw"].shape == shape[:1]


def test_texts_are_filled_with_padding_that_is_as_free_as_they_are(batch_of):
    batch = batch_of("lm", input_ids=[[7, 8, 9], [10], []], draws=[5, 6, 7], length=3)
    assert batch["input_ids"].tolist() == [[B, 7, 8, 9, E], [B, 10, E, P, P], [B, E, P, P, P]]
    assert _bits(batch["attention_mask"]) == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]]
    assert _bits(batch["free"]) == [[0, 1, 1, 1, 1]] * 3
    assert batch["start"].tolist() == [1, 1, 1]
    assert batch["draw"].tolist() == [5, 6, 7]
    _consistent(batch)


def test_padding_that_is_ignored_is_not_free(batch_of):
    batch = batch_of("lm", input_ids=[[7, 8, 9], [10], []], length=5, padding="ignore")
    assert batch["input_ids"].tolist() == [[B, 7, 8, 9, E], [B, 10, E, P, P], [B, E, P, P, P]]
    assert _bits(batch["attention_mask"]) == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]]
    assert _bits(batch["free"]) == [[0, 1, 1, 1, 1], [0, 1, 1, 0, 0], [0, 1, 0, 0, 0]]
    _consistent(batch)


def test_prompts_and_their_bos_are_never_free(batch_of):
    batch = batch_of("seq2seq", prompt_ids=[[7, 8, 9], [7], []], input_ids=[[10, 11], [8], []], length=2)
    assert batch["input_ids"].tolist() == [[7, 8, 9, B, 10, 11, E], [7, B, 8, E, P, P, P], [B, E, P, P, P, P, P]]
    assert _bits(batch["free"]) == [[0, 0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0, 0]]
    assert _bits(batch["attention_mask"]) == [[1] * 7, [1, 1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0]]
    assert batch["start"].tolist() == [4, 2, 1]
    _consistent(batch)


def test_only_holes_are_free(batch_of):
    batch = batch_of("infill", prompt_ids=[[7, M, 9], [M], [7, 8, 8, 8]], input_ids=[[7, 8, 9], [10], [7, 8, 8, 8]])
    assert batch["input_ids"].tolist() == [[B, 7, 8, 9, E, P], [B, 10, E, P, P, P], [B, 7, 8, 8, 8, E]]
    assert _bits(batch["free"]) == [[0, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0] * 6]
    assert _bits(batch["attention_mask"]) == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0], [1] * 6]
    assert batch["start"].tolist() == [1, 1, 1]
    _consistent(batch)


def test_packed_documents_each_get_a_bos_and_are_free(batch_of):
    rows = [[7, 8, E, 9, E], [10, E], [11, 12, 12, E, 7]]
    batch = batch_of("lm", input_ids=rows, segment_ids=[[0, 0, 0, 1, 1], [0, 0], [0, 0, 0, 0, 1]], length=5)
    assert batch["input_ids"].tolist() == [[B, 7, 8, E, B, 9, E], [B, 10, E, P, P, P, P], [B, 11, 12, 12, E, B, 7]]
    assert _bits(batch["attention_mask"]) == [[1] * 7, [1, 1, 1, 0, 0, 0, 0], [1] * 7]
    assert _bits(batch["free"]) == [[0, 1, 1, 1, 0, 1, 1], [0, 1, 1, 0, 0, 0, 0], [0, 1, 1, 1, 1, 0, 1]]
    assert batch["segment_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, -1, -1, -1, -1], [0, 0, 0, 0, 0, 1, 1]]
    assert batch["positions"].tolist()[0] == [0, 1, 2, 3, 0, 1, 2]
    assert batch["positions"].tolist()[2] == [0, 1, 2, 3, 4, 0, 1]
    _consistent(batch)


@pytest.mark.parametrize("padding", ["model", "ignore"])
@pytest.mark.parametrize("layout", ["lm", "seq2seq", "infill"])
def test_decoding_starts_from_the_training_canvas_with_its_free_columns_masked(batch_of, layout, padding):
    """The same columns in the same places. Where the length is not modelled, decoding is given the longest."""
    columns = {"input_ids": [[7, 8, 9], [10, 11, 12], [8, 8, 8]]}
    if layout != "lm":
        columns["prompt_ids"] = [[7, 8], [9], []] if layout == "seq2seq" else [[7, M, 9], [M, M, M], [8, 8, 8]]
    train = batch_of(layout, **columns, length=3, padding=padding)
    held = columns if layout != "lm" else {"input_ids": [[], [], []]}
    predict = batch_of(layout, "predict", **held, length=3, padding=padding)
    assert torch.equal(predict["input_ids"], train["input_ids"].masked_fill(train["free"], M))
    for name in ("free", "start", "attention_mask"):
        assert torch.equal(predict[name], train[name]), name
    assert ("target_ids" in predict) == (layout != "lm")
    if layout != "lm":
        assert predict["target_ids"].tolist() == columns["input_ids"]


def test_a_text_to_go_on_with_takes_its_columns_from_the_canvas(batch_of):
    batch = batch_of("lm", "predict", prompt_ids=[[7, 8], [], [7, 8, 9, 10]], length=4)
    assert batch["input_ids"].tolist() == [[B, 7, 8, M, M, M], [B, M, M, M, M, M], [B, 7, 8, 9, 10, M]]
    assert batch["start"].tolist() == [3, 1, 5]
    assert "target_ids" not in batch
    with pytest.raises(ConfigError, match="no room"):
        batch_of("lm", "predict", prompt_ids=[[7] * 5], length=4)


def test_answers_of_unknown_length_are_padded_on_the_right(batch_of):
    batch = batch_of("seq2seq", "predict", prompt_ids=[[7], [8]], input_ids=[[9, 9, 9], [10]], length=4)
    assert batch["target_ids"].tolist() == [[9, 9, 9], [10, P, P]]
    asked = batch_of("seq2seq", "predict", prompt_ids=[[7], [8]], length=4)
    assert "target_ids" not in asked
    assert torch.equal(asked["input_ids"], batch["input_ids"])


def test_all_batches_are_as_wide_as_the_longest_row_can_be(batch_of):
    options = {"length": 4, "prompt_length": 3, "pad_to_longest": False}
    train = batch_of("seq2seq", prompt_ids=[[7]], input_ids=[[8]], **options)
    assert train["input_ids"].shape == (1, 3 + 1 + 4 + 1)
    assert _bits(train["free"]) == [[0, 0, 1, 1, 1, 1, 1, 0, 0]]


@pytest.mark.parametrize("padding", ["model", "ignore"])
def test_nothing_is_cut_silently(batch_of, padding):
    full = batch_of("lm", input_ids=[[7] * 4], length=4, padding=padding)
    assert full["input_ids"].tolist() == [[B, 7, 7, 7, 7, E]]
    with pytest.raises(ConfigError, match="5 tokens does not fit"):
        batch_of("lm", input_ids=[[7] * 5], length=4, padding=padding)
    with pytest.raises(ConfigError, match="does not fit"):
        batch_of("seq2seq", prompt_ids=[[7] * 9], input_ids=[[7]], length=4, prompt_length=3, pad_to_longest=False)


def test_an_unknown_padding_is_refused(tokenizer):
    with pytest.raises(ConfigError, match="padding='drop'"):
        collator(CollatorConfig(padding="drop"), tokenizer, "lm", "train")
