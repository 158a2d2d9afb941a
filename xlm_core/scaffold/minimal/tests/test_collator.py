"""Canvases against ones written by hand. P is padding, M a mask, E is EOS, B is BOS."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from xlm_core.errors import ConfigError

P, M, E, B = 0, 2, 3, 4
PAIRS = [{"prompt_ids": [7], "input_ids": [8, 9]}, {"prompt_ids": [], "input_ids": [10, 10, 10]}]


def test_a_text_has_a_slot_that_eos_fills(collate: Callable) -> None:
    batch = collate("seq2seq", "train", PAIRS * 20)
    assert batch["target_ids"][:2].tolist() == [[7, B, 8, 9, E, E], [B, 10, 10, 10, E, P]]
    assert batch["attention_mask"][:2].int().tolist() == [[1] * 6, [1] * 5 + [0]]
    masked = batch["input_ids"] == M
    assert torch.equal(masked.flatten().nonzero()[:, 0], batch["predicted"])
    assert torch.equal(batch["input_ids"][~masked], batch["target_ids"][~masked])
    assert masked[0::2].any(0).tolist() == [False, False, True, True, True, True]
    assert masked[1::2].any(0).tolist() == [False, True, True, True, True, False]


def test_decoding_starts_where_training_masks_everything(collate: Callable) -> None:
    batch = collate("seq2seq", "predict", PAIRS)
    assert batch["input_ids"].tolist() == [[7, B, M, M, M, M], [B, M, M, M, M, P]]
    assert batch["begin"].tolist() == [2, 1]
    assert batch["target_ids"].tolist() == [[8, 9, P], [10, 10, 10]]
    begun = collate("lm", "predict", [{"input_ids": [], "prompt_ids": [7, 8]}, {"input_ids": []}])
    assert begun["input_ids"].tolist() == [[7, 8, M, M], [M, M, M, M]]


def test_a_text_that_does_not_fit_is_not_cut(collate: Callable) -> None:
    with pytest.raises(ConfigError, match="1 tokens more than data.length=3"):
        collate("lm", "train", [{"input_ids": [7, 7, 7, 7]}])


def test_every_share_of_masks_is_as_likely(collate: Callable) -> None:
    """Of n columns, each number from 0 to n of masks has probability 1 / (n + 1)."""
    rows = 6000
    masked = (collate("lm", "train", [{"input_ids": [7, 8]}] * rows)["input_ids"] == M).sum(-1)
    counts = torch.bincount(masked, minlength=5)
    assert (counts - rows / 5).abs().max() < 4.5 * (rows * 0.2 * 0.8) ** 0.5
