"""Canvases against ones written by hand, and the law of the masks. P is padding, M a mask, E is EOS, B is BOS."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from xlm_family_dream.collator import collator, random_mask
from xlm_family_dream.config import CollatorConfig

from xlm_core.errors import ConfigError, DataError

P, M, E, B = 0, 2, 3, 4
PAIRS = [([7, 8, 9], [10, 11]), ([7], [8, 8, 12, 9]), ([], [9]), ([12, 12], [])]


def _consistent(batch, free, begins=()):
    """What holds of every training batch; `free` are the columns that may be masked, `begins` those with nothing before."""
    canvas, clean, valid, target = (batch[k] for k in ("input_ids", "target_ids", "attention_mask", "target_mask"))
    free = torch.tensor(free).bool()
    assert canvas.shape == clean.shape == valid.shape == target.shape == free.shape
    assert canvas.dtype == clean.dtype == batch["predicted"].dtype == batch["source"].dtype == torch.int64
    masked = canvas == M
    assert torch.equal(target, masked)
    assert not (masked & ~free).any()
    assert torch.equal(canvas[~masked], clean[~masked])
    assert (clean[~valid] == P).all()
    assert batch["free"].tolist() == free.sum(-1).tolist()
    assert (masked.any(-1) == free.any(-1)).all(), "a row that can be masked is"
    width = canvas.shape[1]
    where = [divmod(index, width) for index in batch["predicted"].tolist()]
    assert where == [tuple(place) for place in target.nonzero().tolist()]
    source = [divmod(index, width) for index in batch["source"].tolist()]
    assert source == [(row, column - ((row, column) not in begins)) for row, column in where]


def test_a_text_has_a_slot_that_eos_fills(lm):
    batch = lm([[7, 8, 9], [10], []], draws=[5, 6, 7], length=3)
    assert batch["target_ids"].tolist() == [[B, 7, 8, 9, E], [B, 10, E, E, E], [B, E, E, E, E]]
    assert batch["attention_mask"].all()
    assert batch["draw"].tolist() == [5, 6, 7]
    assert batch["tokens"].tolist() == [4, 2, 1]
    _consistent(batch, [[0] + [1] * 4] * 3)


def test_without_bos_the_first_column_is_predicted_from_its_own(lm, seq2seq):
    batch = lm([[7, 8, 9], [10], []] * 20, length=3, bos=False)
    assert batch["target_ids"].tolist()[:3] == [[7, 8, 9, E], [10, E, E, E], [E, E, E, E]]
    assert batch["target_mask"][:, 0].any()
    _consistent(batch, [[1] * 4] * 60, begins={(row, 0) for row in range(60)})
    pairs = seq2seq([([7], [8]), ([], [9])] * 20, length=1, bos=False)
    assert pairs["target_ids"].tolist()[:2] == [[7, 8, E], [9, E, P]]
    _consistent(pairs, [[0, 1, 1], [1, 1, 0]] * 20, begins={(row, 0) for row in range(1, 40, 2)})


def test_an_answer_has_its_slot_behind_its_own_prompt(seq2seq):
    batch = seq2seq(PAIRS, length=4)
    assert batch["target_ids"].tolist() == [
        [7, 8, 9, B, 10, 11, E, E, E],
        [7, B, 8, 8, 12, 9, E, P, P],
        [B, 9, E, E, E, E, P, P, P],
        [12, 12, B, E, E, E, E, E, P],
    ]
    assert batch["tokens"].tolist() == [3, 5, 2, 1]
    _consistent(batch, [[0] * 4 + [1] * 5, [0, 0] + [1] * 5 + [0, 0], [0] + [1] * 5 + [0] * 3, [0] * 3 + [1] * 5 + [0]])


def test_only_holes_are_masked_unless_asked_for(infill):
    rows = [([7, 8, 9, 10], {1, 3}), ([7, 8], {0, 1}), ([9], set())]
    batch = infill(rows * 30)
    assert batch["target_ids"].tolist() == [[B, 7, 8, 9, 10], [B, 7, 8, P, P], [B, 9, P, P, P]] * 30
    assert batch["tokens"].tolist() == [2, 2, 0] * 30
    _consistent(batch, [[0, 0, 1, 0, 1], [0, 1, 1, 0, 0], [0] * 5] * 30)
    anywhere = infill(rows * 30, mask_given=True)
    _consistent(anywhere, [[0, 1, 1, 1, 1], [0, 1, 1, 0, 0], [0, 1, 0, 0, 0]] * 30)
    assert torch.equal(infill(rows, "predict", mask_given=True)["input_ids"], infill(rows, "predict")["input_ids"])


def test_packed_documents_keep_their_boundaries(packed):
    batch = packed([[[7, 8], [9]], [[10]]] * 9)
    assert batch["target_ids"].tolist() == [[B, 7, 8, E, B, 9, E], [B, 10, E, P, P, P, P]] * 9
    assert batch["segment_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, -1, -1, -1, -1]] * 9
    assert batch["positions"].tolist()[0] == [0, 1, 2, 3, 0, 1, 2]
    assert batch["tokens"].tolist() == [5, 2] * 9
    _consistent(batch, [[0, 1, 1, 1, 0, 1, 1], [0, 1, 1, 0, 0, 0, 0]] * 9)
    bare = packed([[[7, 8], [9]], [[10]]] * 9, bos=False)
    assert bare["target_ids"].tolist() == [[7, 8, E, 9, E], [10, E, P, P, P]] * 9
    assert bare["positions"].tolist()[0] == [0, 1, 2, 0, 1]
    begins = {(row, column) for row in range(18) for column in ((0, 3) if row % 2 == 0 else (0,))}
    _consistent(bare, [[1] * 5, [1, 1, 0, 0, 0]] * 9, begins)


def _start(batch):
    return {name: batch[name].tolist() for name in ("input_ids", "start", "stop", "ends")}


def test_decoding_starts_from_masks(lm, seq2seq, infill):
    assert _start(lm([[], [7, 8]], "predict", length=3)) == {
        "input_ids": [[B, M, M, M, M], [B, 7, 8, M, M]], "start": [1, 3], "stop": [5, 5], "ends": [True, True],
    }  # fmt: skip
    assert _start(lm([[], [7, 8]], "predict", length=3, packed=True)) == {
        "input_ids": [[B, M, M, M], [B, 7, 8, M]], "start": [1, 3], "stop": [4, 4], "ends": [True, True],
    }  # fmt: skip
    assert _start(seq2seq([([7], [8]), ([], [9, 9])], "predict", length=2)) == {
        "input_ids": [[7, B, M, M, M], [B, M, M, M, P]], "start": [2, 1], "stop": [5, 4], "ends": [True, True],
    }  # fmt: skip
    assert _start(seq2seq([([7], [8]), ([], [9, 9])], "predict", length=2, bos=False)) == {
        "input_ids": [[7, M, M, M], [M, M, M, P]], "start": [1, 0], "stop": [4, 3], "ends": [True, True],
    }  # fmt: skip
    assert _start(infill([([7, 8, 9], {1}), ([8], set())], "predict")) == {
        "input_ids": [[B, 7, M, 9], [B, 8, P, P]], "start": [1, 1], "stop": [4, 2], "ends": [False, False],
    }  # fmt: skip


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("bos", [False, True])
def test_training_and_decoding_have_the_same_canvas(lm, seq2seq, infill, packed, wide, bos):
    """Byte for byte, once all that may be masked is."""
    options = {"length": 4, "prompt_length": 3, "pad_to_longest": not wide, "bos": bos}
    holes = [([7, 8, 9], {0, 2}), ([8], {0}), ([9, 9], set())]
    batches = [
        (lm([[7, 8], [9], []], **options), lm([[]] * 3, "predict", **options)),
        (seq2seq(PAIRS, **options), seq2seq(PAIRS, "predict", **options)),
        (infill(holes, **options), infill(holes, "predict", **options)),
        (packed([[[7, 8, 9]]], **options), lm([[]], "predict", packed=True, **options)),
    ]
    for trained, decoded in batches:
        free = decoded["input_ids"] == M
        assert torch.equal(trained["target_ids"].masked_fill(free, M), decoded["input_ids"])
        assert torch.equal(trained["attention_mask"], decoded["attention_mask"])
        assert not (~free & (trained["input_ids"] == M)).any()


def test_targets_of_decoding_have_no_special_tokens(lm, seq2seq, infill, tokenizer):
    batch = seq2seq(PAIRS, "predict", length=4)
    assert batch["target_ids"].tolist() == [[10, 11, P, P], [8, 8, 12, 9], [9, P, P, P], [P] * 4]
    assert infill([([7, 8], {0})], "predict")["target_ids"].tolist() == [[7, 8]]
    assert "target_ids" not in lm([[7]], "predict")
    alone = collator(CollatorConfig(length=2), tokenizer, "seq2seq", "predict")([{"draw": 0, "prompt_ids": [7]}])
    assert alone["input_ids"].tolist() == [[7, B, M, M, M]]
    assert "target_ids" not in alone


def test_arrays_are_as_good_as_lists(seq2seq):
    arrays = [(np.array(prompt, np.int64), np.array(answer, np.int64)) for prompt, answer in PAIRS]
    for stage in ("train", "predict"):
        one, other = seq2seq(arrays, stage, length=4), seq2seq(PAIRS, stage, length=4)
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_every_number_of_masks_is_equally_likely_and_every_set_of_so_many():
    rows = 20_000
    free = torch.zeros(rows, 7, dtype=torch.bool)
    free[:, [0, 2, 3, 6]] = True
    masked = random_mask(torch.arange(rows), free, 0)
    assert not (masked & ~free).any()
    counts = torch.bincount(masked.sum(-1), minlength=5)
    assert counts[0] == 0
    assert chisquare(counts[1:].numpy()).pvalue > 1e-3
    code = (masked[:, [0, 2, 3, 6]] * torch.tensor([1, 2, 4, 8])).sum(-1)
    for k in range(1, 4):
        sets = torch.bincount(code[masked.sum(-1) == k], minlength=16)
        assert chisquare(sets[sets > 0].numpy()).pvalue > 1e-3
        assert (sets > 0).sum() == {1: 4, 2: 6, 3: 4}[k]


def test_masks_come_from_the_seed_and_the_draw_alone(lm, seq2seq):
    together = seq2seq(PAIRS, draws=[4, 9, 2, 7], length=4, seed=3)
    for n, draw in enumerate([4, 9, 2, 7]):
        alone = seq2seq(PAIRS[n : n + 1], draws=[draw], length=4, seed=3)
        width = alone["input_ids"].shape[1]
        assert torch.equal(alone["input_ids"][0], together["input_ids"][n, :width])
    wide = seq2seq(PAIRS, draws=[4, 9, 2, 7], length=4, prompt_length=20, pad_to_longest=False, seed=3)
    assert wide["input_ids"].shape == (4, 26)
    assert torch.equal(wide["input_ids"][:, :9], together["input_ids"])
    text = [7, 8] * 20
    rows = lm([text] * 3, draws=[1, 1, 2], length=40)["input_ids"]
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[1], rows[2])
    assert not torch.equal(lm([text], draws=[1], length=40, seed=1)["input_ids"][0], rows[0])


def test_nothing_that_does_not_fit_is_cut(lm, seq2seq, infill, packed):
    """A prompt least of all: its beginning holds what the rest is about."""
    fixed = {"length": 3, "prompt_length": 2, "pad_to_longest": False}
    for make in (
        lambda: lm([[7, 8, 9, 10]], length=3),
        lambda: lm([[7, 8, 9, 10]], "predict", length=3),
        lambda: lm([[7, 8, 9, 10]], "predict", length=3, packed=True),
        lambda: seq2seq([([7], [7, 8, 9, 10])], length=3),
        lambda: seq2seq([([7, 8, 9], [7])], **fixed),
        lambda: seq2seq([([7, 8, 9], [7])], "predict", **fixed),
        lambda: infill([([7, 8, 9, 10], {0})], **fixed),
        lambda: packed([[[7, 8, 9]]], length=3),
    ):
        with pytest.raises(ConfigError, match=r"does not fit|is longer than"):
            make()
    assert lm([[7, 8, 9]], **fixed)["input_ids"].shape == (1, 5)
    assert lm([[7, 8, 9]], "predict", **fixed)["input_ids"].tolist() == [[B, 7, 8, 9, M]]
    assert seq2seq([([7, 8], [7, 8, 9])], **fixed)["target_ids"].tolist() == [[7, 8, B, 7, 8, 9, E]]
    long = [7, 8] * 40
    assert seq2seq([(long, [9])], length=1, prompt_length=8)["target_ids"][0].tolist() == [*long, B, 9, E]


def test_holes_that_do_not_match_their_text_are_refused(tokenizer):
    with pytest.raises(DataError, match="differ in length"):
        collator(CollatorConfig(), tokenizer, "infill", "train")([{"draw": 0, "prompt_ids": [M], "input_ids": [7, 8]}])
