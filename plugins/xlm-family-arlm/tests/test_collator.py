"""Canvases against ones written by hand: P is padding, B is BOS, E is EOS."""

from __future__ import annotations

import pytest
import torch
from xlm_family_arlm.collator import collator
from xlm_family_arlm.config import CollatorConfig

from xlm_core.errors import ConfigError

P, E, B = 0, 3, 4


def _consistent(batch):
    """What holds of every training batch."""
    assert batch["input_ids"].shape == batch["attention_mask"].shape == batch["target_ids"].shape == batch["target_mask"].shape
    assert batch["input_ids"].dtype == batch["target_ids"].dtype == batch["predicted"].dtype == torch.int64
    assert batch["attention_mask"].dtype == batch["target_mask"].dtype == torch.bool
    assert not (batch["target_mask"] & ~batch["attention_mask"]).any()
    assert (batch["input_ids"][~batch["attention_mask"]] == P).all()
    columns = batch["target_mask"].shape[1]
    where = [divmod(index, columns) for index in batch["predicted"].tolist()]
    assert where == [tuple(place) for place in batch["target_mask"].nonzero().tolist()]


def test_texts_of_different_lengths(lm):
    batch = lm([[7, 8, 9], [10], []], draws=[5, 6, 7])
    assert batch["input_ids"].tolist() == [[B, 7, 8, 9], [B, 10, P, P], [B, P, P, P]]
    assert batch["target_ids"].tolist() == [[7, 8, 9, E], [10, E, P, P], [E, P, P, P]]
    assert batch["target_mask"].int().tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]
    assert batch["attention_mask"].int().tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]
    assert batch["draw"].tolist() == [5, 6, 7]
    _consistent(batch)


def test_only_the_answer_is_predicted(seq2seq):
    batch = seq2seq([([7, 8, 9], [10, 11]), ([7], [8]), ([], [9])])
    assert batch["input_ids"].tolist() == [[7, 8, 9, B, 10, 11], [7, B, 8, P, P, P], [B, 9, P, P, P, P]]
    assert batch["target_ids"].tolist() == [[8, 9, B, 10, 11, E], [B, 8, E, P, P, P], [9, E, P, P, P, P]]
    assert batch["target_mask"].int().tolist() == [[0, 0, 0, 1, 1, 1], [0, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]]
    _consistent(batch)


def test_the_prompt_is_predicted_when_asked_for_but_never_its_bos(seq2seq):
    batch = seq2seq([([7, 8, 9], [10]), ([7], [8]), ([], [9])], loss_on_prompt=True)
    assert batch["target_ids"].tolist() == [[8, 9, B, 10, E], [B, 8, E, P, P], [9, E, P, P, P]]
    assert batch["target_mask"].int().tolist() == [[1, 1, 0, 1, 1], [0, 1, 1, 0, 0], [1, 1, 0, 0, 0]]
    _consistent(batch)


def test_packed_documents_each_begin_with_bos_in_the_column_of_the_eos_before(packed):
    batch = packed([[[7, 8], [9]], [[10]], [[11, 12], [7, 8]]], open_rows=[2])
    assert batch["input_ids"].tolist() == [[B, 7, 8, B, 9], [B, 10, P, P, P], [B, 11, 12, B, 7]]
    assert batch["target_ids"].tolist() == [[7, 8, E, 9, E], [10, E, P, P, P], [11, 12, E, 7, 8]]
    assert batch["segment_ids"].tolist() == [[0, 0, 0, 1, 1], [0, 0, -1, -1, -1], [0, 0, 0, 1, 1]]
    assert batch["target_mask"].int().tolist() == [[1] * 5, [1, 1, 0, 0, 0], [1] * 5]
    assert batch["positions"].tolist()[0] == [0, 1, 2, 0, 1]
    assert batch["positions"].tolist()[1][:2] == [0, 1]
    _consistent(batch)


def test_prompts_are_padded_on_the_left_for_decoding(seq2seq):
    batch = seq2seq([([7, 8, 9], [10, 11]), ([7], [8]), ([], [])], "predict", draws=[3, 1, 2])
    assert batch["input_ids"].tolist() == [[7, 8, 9, B], [P, P, 7, B], [P, P, P, B]]
    assert batch["attention_mask"].int().tolist() == [[1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]]
    assert batch["target_ids"].tolist() == [[10, 11], [8, P], [P, P]]
    assert batch["draw"].tolist() == [3, 1, 2]


def test_text_is_continued_behind_bos(lm):
    batch = lm([[7, 8], []], "predict")
    assert batch["input_ids"].tolist() == [[B, 7, 8], [P, P, B]]
    assert "target_ids" not in batch


def test_decoding_starts_from_the_very_columns_that_training_has(seq2seq):
    pairs = [([7, 8, 9], [10, 11]), ([7], [8]), ([], [9])]
    trained, decoded = seq2seq(pairs), seq2seq(pairs, "predict")
    for row in range(len(pairs)):
        start = decoded["input_ids"][row][decoded["attention_mask"][row]].tolist()
        before_answer = int(trained["target_mask"][row].int().argmax()) + 1
        assert trained["input_ids"][row, :before_answer].tolist() == start


def test_fixed_width_holds_the_longest_row_with_its_specials_and_no_longer_one(lm, seq2seq, packed):
    options = {"length": 3, "prompt_length": 2, "pad_to_longest": False}
    assert lm([[7, 8, 9]], **options)["input_ids"].shape == (1, 4)
    assert lm([[7, 8, 9]], **options)["target_ids"].tolist() == [[7, 8, 9, E]]
    assert seq2seq([([7, 8], [7, 8, 9])], **options)["target_ids"].tolist() == [[8, B, 7, 8, 9, E]]
    assert seq2seq([([7], [])], "predict", **options)["input_ids"].tolist() == [[P, 7, B]]
    assert packed([[[7], []]], **options)["input_ids"].shape == (1, 3)
    for make in (
        lambda: lm([[7, 8, 9, 10]], **options),
        lambda: seq2seq([([7, 8], [7, 8, 9, 10])], **options),
        lambda: seq2seq([([7, 8, 9], [7])], "predict", **options),
        lambda: packed([[[7, 8, 9]]], **options),
    ):
        with pytest.raises(ConfigError, match="does not fit"):
            make()


def test_nothing_is_cut_in_batches_as_wide_as_their_longest_row(lm, seq2seq):
    text = [7, 8] * 40
    assert lm([text, [9]], length=8)["target_ids"][0].tolist() == [*text, E]
    batch = seq2seq([(text, text), ([9], [])], length=8, prompt_length=8)
    assert batch["input_ids"][0].tolist() == [*text, B, *text]
    assert seq2seq([(text, [])], "predict", length=8, prompt_length=8)["input_ids"][0].tolist() == [*text, B]


def test_a_prompt_without_an_answer_can_be_decoded(tokenizer):
    batch = collator(CollatorConfig(), tokenizer, "seq2seq", "predict")([{"draw": 0, "prompt_ids": [7]}])
    assert batch["input_ids"].tolist() == [[7, B]]
    assert "target_ids" not in batch
