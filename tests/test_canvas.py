"""Special tokens, padding, positions and cutting, against loops in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xlm_core.canvas import Specials, pad, positions, until
from xlm_core.config import TokenizerConfig
from xlm_core.data.tokenizers import build
from xlm_core.errors import ConfigError

PAD = 9
ROWS = [[1, 2, 3], [], [4], [5, 6]]


@pytest.fixture(scope="module")
def tokenizer():
    return build(TokenizerConfig(kind="numbers", size=3))


def test_specials_are_those_of_the_tokenizer(tokenizer):
    specials = Specials.of(tokenizer)
    assert tokenizer.convert_ids_to_tokens([specials.pad, specials.eos, specials.mask]) == ["[PAD]", "[EOS]", "[MASK]"]
    everything = set(range(len(tokenizer)))
    words = set(tokenizer.convert_tokens_to_ids(["0", "1", "2"]))
    assert everything - set(specials.never_generated) == words | {specials.eos}


def test_a_tokenizer_without_a_special_token_is_refused(tokenizer):
    class Lacking:
        def __getattr__(self, name):
            return None if name == "sep_token_id" else getattr(tokenizer, name)

    with pytest.raises(ConfigError, match="no sep token"):
        Specials.of(Lacking())


@pytest.mark.parametrize("width", [None, 3, 5])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("convert", [list, np.array, torch.tensor], ids=["list", "numpy", "torch"])
def test_rows_are_padded_on_one_side(width, side, convert):
    canvas = pad([convert(row) for row in ROWS], PAD, width=width, side=side)
    columns = width or 3
    for row, ids, mask in zip(ROWS, canvas.ids.tolist(), canvas.mask.tolist(), strict=True):
        gap = columns - len(row)
        expected = [PAD] * gap + row if side == "left" else row + [PAD] * gap
        real = [False] * gap + [True] * len(row) if side == "left" else [True] * len(row) + [False] * gap
        assert ids == expected
        assert mask == real
    assert (canvas.ids.dtype, canvas.mask.dtype) == (torch.int64, torch.bool)


def test_a_row_may_hold_the_pad_id_as_content():
    canvas = pad([[PAD, 1], [2]], PAD)
    assert canvas.mask.tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize("rows, width, shape", [([], None, (0, 0)), ([[], []], None, (2, 0)), ([[], []], 4, (2, 4))])
def test_nothing_at_all_can_be_padded(rows, width, shape):
    canvas = pad(rows, PAD, width=width)
    assert canvas.ids.shape == canvas.mask.shape == shape
    assert not canvas.mask.any()
    assert (canvas.ids == PAD).all()


@pytest.mark.parametrize("width", [0, 2])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_row_that_does_not_fit_is_an_error_and_is_not_cut(width, side):
    with pytest.raises(ConfigError, match=f"row of 3 tokens does not fit a canvas of {width}"):
        pad(ROWS, PAD, width=width, side=side)


def test_positions_count_real_tokens_however_a_row_is_padded():
    for side in ("left", "right"):
        canvas = pad(ROWS, PAD, width=6, side=side)
        for row, place, mask in zip(ROWS, positions(canvas.mask), canvas.mask, strict=True):
            assert place[mask].tolist() == list(range(len(row)))
    left = positions(pad(ROWS, PAD, width=6, side="left").mask)
    assert left.min() == 0  # an embedding table can be read at every column


@pytest.mark.parametrize("row, expected", [([1, 7, 2, 7], [1, PAD, PAD, PAD]), ([1, 2], [1, 2]), ([7], [PAD]), ([], [])])
def test_until_ends_a_row_at_its_first_stop(row, expected):
    ids = torch.tensor([row], dtype=torch.int64)
    before = ids.clone()
    assert until(ids, 7, PAD).tolist() == [expected]
    assert torch.equal(ids, before)
