"""Canvases against ones written by hand, and the law of the masks. P is padding, M a mask, E is EOS, B is BOS."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binom, chisquare, kstest
from xlm_family_mlm.collator import collator, random_mask
from xlm_family_mlm.config import CollatorConfig

from xlm_core.errors import ConfigError, DataError

P, M, E, B = 0, 2, 3, 4
PAIRS = [([7, 8, 9], [10, 11]), ([7], [8, 8, 12, 9]), ([], [9]), ([12, 12], [])]


def _consistent(batch, free):
    """What holds of every training batch; `free` are the columns that may be masked, and are predicted where they are."""
    canvas, clean, valid, target = (batch[k] for k in ("input_ids", "target_ids", "attention_mask", "target_mask"))
    assert canvas.shape == clean.shape == valid.shape == target.shape
    assert canvas.dtype == clean.dtype == batch["predicted"].dtype == torch.int64
    assert valid.dtype == target.dtype == torch.bool
    masked = canvas == M
    assert torch.equal(canvas[~masked], clean[~masked])
    assert not (masked & ~torch.tensor(free).bool()).any()
    assert (clean[~valid] == P).all()
    assert torch.equal(target, masked)
    where = [divmod(index, canvas.shape[1]) for index in batch["predicted"].tolist()]
    assert where == [tuple(place) for place in target.nonzero().tolist()]


def test_a_text_has_a_slot_that_eos_fills(lm):
    batch = lm([[7, 8, 9], [10], []], draws=[5, 6, 7], length=3)
    assert batch["target_ids"].tolist() == [[7, 8, 9, E], [10, E, E, E], [E, E, E, E]]
    assert batch["attention_mask"].all()
    assert batch["draw"].tolist() == [5, 6, 7]
    _consistent(batch, [[1] * 4] * 3)


def test_without_fill_a_text_is_closed_by_one_eos_that_is_never_masked(lm):
    batch = lm([[7, 8, 9], [10], []], length=3, fill=False)
    assert batch["target_ids"].tolist() == [[7, 8, 9, E], [10, E, P, P], [E, P, P, P]]
    assert batch["attention_mask"].int().tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]
    _consistent(batch, [[1, 1, 1, 0], [1, 0, 0, 0], [0] * 4])


def test_an_answer_has_its_slot_behind_its_own_prompt(seq2seq):
    batch = seq2seq(PAIRS, length=4)
    assert batch["target_ids"].tolist() == [
        [7, 8, 9, B, 10, 11, E, E, E],
        [7, B, 8, 8, 12, 9, E, P, P],
        [B, 9, E, E, E, E, P, P, P],
        [12, 12, B, E, E, E, E, E, P],
    ]
    free = [[0] * 4 + [1] * 5, [0, 0] + [1] * 5 + [0, 0], [0] + [1] * 5 + [0] * 3, [0] * 3 + [1] * 5 + [0]]
    assert batch["attention_mask"].sum(-1).tolist() == [9, 7, 6, 8]
    _consistent(batch, free)


def test_only_holes_are_masked_unless_asked_for(infill):
    rows = [([7, 8, 9, 10], {1, 3}), ([7, 8], {0, 1}), ([9], set())]
    clean = [[7, 8, 9, 10], [7, 8, P, P], [9, P, P, P]]
    batch = infill(rows * 30)
    assert batch["target_ids"].tolist() == clean * 30
    _consistent(batch, [[0, 1, 0, 1], [1, 1, 0, 0], [0] * 4] * 30)
    anywhere = infill(rows * 30, mask_given=True)
    _consistent(anywhere, [[1] * 4, [1, 1, 0, 0], [1, 0, 0, 0]] * 30)
    assert (anywhere["input_ids"][:, 0] == M).sum() > 20
    assert torch.equal(infill(rows, "predict", mask_given=True)["input_ids"], infill(rows, "predict")["input_ids"])


def test_packed_documents_keep_their_boundaries(packed):
    batch = packed([[[7, 8], [9]], [[10]], [[11, 12], [7, 8]]], open_rows=[2])
    assert batch["target_ids"].tolist() == [[7, 8, E, 9, E], [10, E, P, P, P], [11, 12, E, 7, 8]]
    assert batch["segment_ids"].tolist() == [[0, 0, 0, 1, 1], [0, 0, -1, -1, -1], [0, 0, 0, 1, 1]]
    assert batch["positions"].tolist()[0] == [0, 1, 2, 0, 1]
    assert batch["positions"].tolist()[1][:2] == [0, 1]
    _consistent(batch, [[1] * 5, [1, 1, 0, 0, 0], [1] * 5])


def test_segments_are_kept_whatever_the_options(packed):
    """Packed rows that fell to a collator for single texts would be attended across documents."""
    for options in ({}, {"packed": False}, {"packed": False, "fill": False}):
        batch = packed([[[7, 8], [9]]], **options)
        assert batch["segment_ids"].tolist() == [[0, 0, 0, 1, 1]]
        assert batch["target_ids"].tolist() == [[7, 8, E, 9, E]]


def _start(batch):
    return {name: batch[name].tolist() for name in ("input_ids", "start", "stop", "ends")}


def test_decoding_starts_from_masks(lm, seq2seq, infill):
    assert _start(lm([[], [7, 8]], "predict", length=3)) == {
        "input_ids": [[M] * 4, [7, 8, M, M]], "start": [0, 2], "stop": [4, 4], "ends": [True, True],
    }  # fmt: skip
    assert _start(lm([[], [7, 8]], "predict", length=3, fill=False)) == {
        "input_ids": [[M, M, M, E], [7, 8, M, E]], "start": [0, 2], "stop": [3, 3], "ends": [False, False],
    }  # fmt: skip
    assert _start(lm([[], [7, 8]], "predict", length=3, packed=True)) == {
        "input_ids": [[M] * 3, [7, 8, M]], "start": [0, 2], "stop": [3, 3], "ends": [True, True],
    }  # fmt: skip
    assert _start(seq2seq([([7], [8]), ([], [9, 9])], "predict", length=2)) == {
        "input_ids": [[7, B, M, M, M], [B, M, M, M, P]], "start": [2, 1], "stop": [5, 4], "ends": [True, True],
    }  # fmt: skip
    assert _start(seq2seq([([7], [8])], "predict", length=2, fill=False)) == {
        "input_ids": [[7, B, M, M, E]], "start": [2], "stop": [4], "ends": [False],
    }  # fmt: skip
    assert _start(infill([([7, 8, 9], {1}), ([8], set())], "predict")) == {
        "input_ids": [[7, M, 9], [8, P, P]], "start": [0, 0], "stop": [3, 1], "ends": [False, False],
    }  # fmt: skip


@pytest.mark.parametrize("wide", [False, True])
def test_training_and_decoding_have_the_same_canvas(lm, seq2seq, infill, packed, wide):
    """Byte for byte, once all that may be masked is."""
    options = {"length": 4, "prompt_length": 3, "pad_to_longest": not wide}
    texts, holes = [[7, 8, 9, 7], [8, 7, 9, 9]], [([7, 8, 9], {0, 2}), ([8], {0}), ([9, 9], set())]
    batches = [
        (lm([[7, 8], [9], []], **options), lm([[]] * 3, "predict", **options)),
        (lm(texts, fill=False, **options), lm([[]] * 2, "predict", fill=False, **options)),
        (seq2seq(PAIRS, **options), seq2seq(PAIRS, "predict", **options)),
        (infill(holes, **options), infill(holes, "predict", **options)),
        (packed([[[7, 8], [9]]], length=5, pad_to_longest=not wide), lm([[]], "predict", packed=True, length=5)),
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


def test_every_number_of_masks_is_equally_likely():
    n, rows = 6, 21_000
    free = torch.zeros(rows, n + 3, dtype=torch.bool)
    free[:, [0, 2, 3, 5, 6, 8]] = True
    masked = random_mask(torch.arange(rows), free, 0)
    assert not (masked & ~free).any()
    counts = torch.bincount(masked.sum(-1), minlength=n + 1)
    assert chisquare(counts.numpy()).pvalue > 1e-3
    pairs = masked[:, 0] & masked[:, 8]  # given the ratio, columns are independent: E[t^2] = 1/3
    assert abs(pairs.double().mean().item() - 1 / 3) < 4 * (2 / 9 / rows) ** 0.5


def test_the_ratio_is_uniform_and_a_row_follows_it():
    masked = random_mask(torch.arange(2000), torch.ones(2000, 400, dtype=torch.bool), 0)
    share = masked.double().mean(-1)
    assert kstest(share.numpy(), "uniform").pvalue > 1e-3
    middle = masked[(share - 0.5).abs() < 0.01]
    halves = middle[:, :200].sum(-1).double()
    assert halves.std().item() < 1.5 * binom(200, 0.5).std()


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


def test_visible_tokens_and_the_fill_count_as_asked_for(lm, seq2seq):
    draws = list(range(60))
    batch = seq2seq([([7], [8])] * 60, draws=draws, length=5)
    for most in (0, 2):
        some = seq2seq([([7], [8])] * 60, draws=draws, length=5, fill_in_loss=most)
        assert torch.equal(some["input_ids"], batch["input_ids"])
        columns = torch.arange(8)
        assert torch.equal(some["target_mask"], batch["target_mask"] & (columns <= 3 + most))
        assert torch.equal(some["predicted"], some["target_mask"].flatten().nonzero()[:, 0])
    seen = seq2seq([([7], [8])] * 60, draws=draws, length=5, visible_in_loss=True)
    assert torch.equal(seen["input_ids"], batch["input_ids"])
    assert seen["target_mask"].int().tolist() == [[0, 0, 1, 1, 1, 1, 1, 1]] * 60
    both = lm([[7, 8]], length=5, visible_in_loss=True, fill_in_loss=1)
    assert both["target_mask"].int().tolist() == [[1, 1, 1, 1, 0, 0]]


def test_lengths_are_drawn_with_their_weights(lm, tokenizer):
    weights = {2: 1.0, 5: 3.0, 4: 6.0}
    batch = lm([[]] * 4000, "predict", fill=False, lengths=weights, length=5)
    lengths = batch["stop"].tolist()
    assert chisquare([lengths.count(n) for n in weights], [400 * w for w in weights.values()]).pvalue > 1e-3
    assert torch.equal((batch["input_ids"] == M).sum(-1), batch["stop"])
    closing = batch["input_ids"].gather(1, batch["stop"][:, None])
    assert (closing == E).all()
    assert torch.equal(batch["attention_mask"].sum(-1), batch["stop"] + 1)
    assert not batch["ends"].any()
    again = lm([[]] * 2, "predict", draws=[17, 5], fill=False, lengths=weights, length=5)
    assert again["stop"].tolist() == [lengths[17], lengths[5]]


def test_a_text_is_never_shorter_than_its_beginning(lm):
    options = {"fill": False, "lengths": {2: 1.0, 4: 1.0, 5: 1.0}, "length": 5}
    batch = lm([[7, 8, 9]] * 300, "predict", **options)
    assert set(batch["stop"].tolist()) == {4, 5}
    with pytest.raises(ConfigError, match="no length for a prompt of 6"):
        lm([[7] * 6], "predict", **options)


def test_nothing_that_does_not_fit_is_cut(lm, seq2seq, infill, packed):
    fixed = {"length": 3, "prompt_length": 2, "pad_to_longest": False}
    for make in (
        lambda: lm([[7, 8, 9, 10]], length=3),
        lambda: lm([[7, 8, 9, 10]], length=3, fill=False),
        lambda: lm([[7, 8, 9, 10]], "predict", length=3),
        lambda: lm([[7, 8, 9, 10]], "predict", length=3, packed=True),
        lambda: lm([[7, 8, 9, 10]], "predict", length=3, fill=False),
        lambda: seq2seq([([7], [7, 8, 9, 10])], length=3),
        lambda: seq2seq([([7, 8, 9], [7])], "predict", **fixed),
        lambda: infill([([7, 8, 9, 10], {0})], **fixed),
        lambda: packed([[[7, 8, 9]]], **fixed),
    ):
        with pytest.raises(ConfigError, match=r"does not fit|is longer than"):
            make()
    assert lm([[7, 8, 9]], **fixed)["input_ids"].shape == (1, 4)
    assert seq2seq([([7, 8], [7, 8, 9])], **fixed)["target_ids"].tolist() == [[7, 8, B, 7, 8, 9, E]]
    assert packed([[[7], []]], **fixed)["input_ids"].shape == (1, 3)
    long = [7, 8] * 40
    assert seq2seq([(long, [9])], length=1, prompt_length=8)["target_ids"][0].tolist() == [*long, B, 9, E]


def test_options_that_make_no_sense_are_refused(lm, tokenizer):
    with pytest.raises(ConfigError, match="finds the lengths"):
        lm([[]], "predict", lengths={3: 1.0})
    for lengths in ({}, {3: 0.0}, {9: 1.0}, {-1: 1.0}):
        with pytest.raises(ConfigError, match="needs weights above 0"):
            lm([[]], "predict", fill=False, lengths=lengths, length=8)
    with pytest.raises(DataError, match="differ in length"):
        collator(CollatorConfig(), tokenizer, "infill", "train")([{"draw": 0, "prompt_ids": [M], "input_ids": [7, 8]}])
