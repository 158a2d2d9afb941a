"""Canvases of every layout, written out."""

from __future__ import annotations

import pytest
import torch
from xlm_family_flexmdm import noising

from xlm_core.errors import ConfigError

PAD, MASK, EOS, BOS = 0, 2, 3, 4


def _flags(batch, name):
    return ["".join(".#"[flag] for flag in row) for row in batch[name].tolist()]


def test_texts(batch_of):
    batch = batch_of("lm", input_ids=[[7, 8, 9], []], draws=[5, 9])
    assert batch["draw"].tolist() == [5, 9]
    assert batch["input_ids"].tolist() == [[BOS, 7, 8, 9, EOS], [BOS, EOS, PAD, PAD, PAD]]
    assert _flags(batch, "attention_mask") == ["#####", "##..."]
    assert _flags(batch, "free") == [".###.", "....."]
    assert _flags(batch, "open") == [".####", ".#..."]


def test_prompts_and_answers(batch_of):
    batch = batch_of("seq2seq", prompt_ids=[[7, 8], [9]], input_ids=[[10], [11, 12]])
    assert batch["input_ids"].tolist() == [[7, 8, BOS, 10, EOS], [9, BOS, 11, 12, EOS]]
    assert _flags(batch, "free") == ["...#.", "..##."]
    assert _flags(batch, "open") == ["...##", "..###"]


def test_holes_inside(batch_of):
    """F10: gaps are open at the holes, inside a text too, and nowhere else."""
    batch = batch_of(
        "infill", prompt_ids=[[7, MASK, MASK, 10], [MASK, 8, 9, MASK], [7, 8, 9, 10]], input_ids=[[7, 8, 9, 10]] * 3
    )
    assert batch["input_ids"].tolist() == [[BOS, 7, 8, 9, 10, EOS]] * 3
    assert _flags(batch, "free") == ["..##..", ".#..#.", "......"]
    assert _flags(batch, "open") == ["..###.", ".##.##", "......"]


@pytest.mark.parametrize(
    "layout, columns, ids, opens, start",
    [
        ("lm", {"input_ids": [[7, 8]]}, [BOS, EOS], ".#", 1),
        ("lm", {"prompt_ids": [[7, 8]]}, [BOS, 7, 8, EOS], "...#", 3),
        ("seq2seq", {"prompt_ids": [[7, 8]], "input_ids": [[9]]}, [7, 8, BOS, EOS], "...#", 3),
        ("infill", {"prompt_ids": [[7, MASK, MASK, 9]], "input_ids": [[7, 8, 8, 9]]}, [BOS, 7, 9, EOS], "..#.", 1),
        ("infill", {"prompt_ids": [[MASK, 7, MASK]], "input_ids": [[8, 7, 8]]}, [BOS, 7, EOS], ".##", 1),
    ],
)
def test_decoding_starts_without_free_tokens(batch_of, layout, columns, ids, opens, start):
    batch = batch_of(layout, "predict", **columns)
    assert batch["input_ids"].tolist() == [ids]
    assert _flags(batch, "open") == [opens]
    assert batch["start"].tolist() == [start]


@pytest.mark.parametrize("layout", ["lm", "seq2seq", "infill"])
def test_decoding_starts_from_the_training_canvas_at_time_0(batch_of, specials, layout):
    texts = [[7, 8, 9, 10], [7, 7], [12]]
    prompts = [[7, MASK, MASK, 10], [MASK, 7], [12]] if layout == "infill" else [[9], [], [8, 7]]
    columns = {"input_ids": texts} if layout == "lm" else {"input_ids": texts, "prompt_ids": prompts}
    train, predict = (batch_of(layout, stage, **columns) for stage in ("train", "predict"))
    fate = noising.Fate(train["free"], torch.zeros_like(train["free"]))
    start = noising.apply(train["input_ids"], train["attention_mask"], train["open"], fate, specials)
    width = predict["input_ids"].shape[1]
    for name, value in (("input_ids", start.ids), ("attention_mask", start.mask), ("open", start.open)):
        assert torch.equal(predict[name], value[:, :width])
        assert not value[:, width:].any()


def test_answers_of_any_length_make_one_tensor(batch_of):
    """F9: an answer beyond the configured length is neither cut nor ragged."""
    batch = batch_of("seq2seq", "predict", prompt_ids=[[7], [8, 9]], input_ids=[[10], list(range(7, 13)) * 3])
    assert batch["target_ids"].shape == (2, 18)
    assert batch["target_ids"][0].tolist() == [10] + [PAD] * 17


def test_batches_of_one_width(batch_of):
    options = {"length": 6, "prompt_length": 3, "pad_to_longest": False}
    assert batch_of("lm", input_ids=[[7], [8, 9]], **options)["input_ids"].shape == (2, 8)
    assert batch_of("seq2seq", prompt_ids=[[7]], input_ids=[[8]], **options)["input_ids"].shape == (1, 11)
    assert batch_of("seq2seq", "predict", prompt_ids=[[7]], input_ids=[[8]], **options)["input_ids"].shape == (1, 3)
    with pytest.raises(ConfigError, match="does not fit"):
        batch_of("lm", input_ids=[[7] * 7], **options)
