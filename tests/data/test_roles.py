"""Roles of tokens, against rows that are written out."""

from __future__ import annotations

import pytest
import torch

from xlm_core.config import TokenizerConfig
from xlm_core.data import tokenizers
from xlm_core.data.roles import of_batch, of_example

PAD, MASK, EOS, BOS, A, B, C = 0, 2, 3, 4, 7, 8, 9


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizers.build(TokenizerConfig(kind="words", words=["a", "b", "c"]))


def shown(tokens):
    return [(token.token, token.role) for token in tokens]


def test_a_question_and_its_answer(tokenizer):
    found = of_example({"prompt_ids": [A, B], "input_ids": [C, A]}, "seq2seq", tokenizer)
    assert shown(found) == [("a", "prompt"), ("b", "prompt"), ("c", "target"), ("a", "target")]
    assert [token.id for token in found] == [A, B, C, A]


def test_holes_are_shown_filled(tokenizer):
    found = of_example({"prompt_ids": [A, MASK, MASK], "input_ids": [A, B, C]}, "infill", tokenizer)
    assert shown(found) == [("a", "given"), ("b", "hole"), ("c", "hole")]


def test_documents_of_a_packed_row_end(tokenizer):
    found = of_example({"input_ids": [A, EOS, B], "segment_ids": [0, 0, 1]}, "lm", tokenizer)
    assert shown(found) == [("a", "text"), ("[EOS]", "eos"), ("b", "text")]


def test_what_a_collator_made_of_a_question(tokenizer):
    batch = {"input_ids": torch.tensor([[PAD, A, B, BOS, C, MASK, EOS, PAD]])}
    found = of_batch(batch, {"prompt_ids": [A, B], "input_ids": [C, A]}, "seq2seq", tokenizer)
    roles = ["pad", "prompt", "prompt", "bos", "target", "hole", "eos", "pad"]
    assert [token.role for token in found] == roles


def test_what_a_collator_made_of_a_text_or_of_holes(tokenizer):
    batch = {"input_ids": torch.tensor([[BOS, A, MASK]])}
    assert [token.role for token in of_batch(batch, {"input_ids": [A, B]}, "lm", tokenizer)] == ["bos", "text", "hole"]
    example = {"prompt_ids": [A, MASK], "input_ids": [A, B]}
    assert [token.role for token in of_batch(batch, example, "infill", tokenizer)] == ["bos", "given", "hole"]
