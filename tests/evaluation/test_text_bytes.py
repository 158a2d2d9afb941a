"""Bytes of rows: against the texts that the ids were made of."""

from __future__ import annotations

import math

import pytest
import torch

from xlm_core.config import TokenizerConfig
from xlm_core.data import tokenizers
from xlm_core.evaluation.statistics import RatioMeter
from xlm_core.evaluation.text_bytes import TextBytes, WithBytes
from xlm_core.protocols import Ratio

TEXTS = ["plain", "", "naïve — 日本 🙂", "a [MASK] b\n\tc"]


@pytest.mark.parametrize("text", TEXTS)
def test_byte_tokens_count_what_the_text_has_in_utf8(text):
    tokenizer = tokenizers.build(TokenizerConfig(kind="byte"))
    (ids,) = tokenizers.encode(tokenizer, [text])
    count = TextBytes(tokenizer)
    assert count.exact
    assert count(ids) == len(text.encode())
    assert sum(count(ids[i : i + 1]) for i in range(len(ids))) == len(text.encode())  # cut inside a character
    assert count([tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]) == len(text.encode())


def test_characters_count_their_own_bytes():
    tokenizer = tokenizers.build(TokenizerConfig(kind="char", alphabet="aé日"))
    (ids,) = tokenizers.encode(tokenizer, ["日aéa"])
    assert TextBytes(tokenizer)(ids) == 3 + 1 + 2 + 1


def test_words_count_as_they_are_written_out():
    tokenizer = tokenizers.build(TokenizerConfig(kind="words", words=["one", "twö"]))
    (ids,) = tokenizers.encode(tokenizer, ["one twö one"])
    count = TextBytes(tokenizer)
    assert not count.exact
    assert count([*ids, tokenizer.eos_token_id]) == len("one twö one".encode())


def test_batches_hold_the_bytes_of_their_rows_in_order():
    tokenizer = tokenizers.build(TokenizerConfig(kind="byte"))
    rows = tokenizers.encode(tokenizer, ["abc", "é", ""])
    collate = WithBytes(lambda examples: {"draw": torch.tensor([e["draw"] for e in examples])}, TextBytes(tokenizer))
    batch = collate([{"draw": n, "input_ids": ids} for n, ids in enumerate(rows)])
    assert batch["bytes"].tolist() == [3, 2, 0]
    assert batch["draw"].tolist() == [0, 1, 2]


def test_bits_per_byte_is_the_ratio_of_sums_with_the_error_of_a_jackknife():
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(20, 60, (400,), generator=generator).double()
    nats = sizes * 0.7 + torch.randn(400, generator=generator, dtype=torch.float64) * 3
    meter = RatioMeter()
    for part in (slice(0, 150), slice(150, 400)):
        meter.update(Ratio(nats[part], sizes[part]))
    found = meter.estimate().scaled(1 / math.log(2))
    assert found.value == pytest.approx(float(nats.sum() / sizes.sum() / math.log(2)))
    left_out = (nats.sum() - nats) / (sizes.sum() - sizes) / math.log(2)
    jackknife = (399 / 400 * ((left_out - left_out.mean()) ** 2).sum()).sqrt()
    assert found.stderr == pytest.approx(float(jackknife), rel=0.02)
