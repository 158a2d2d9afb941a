"""Clean rows to canvases with masks, for training and for decoding alike.

A canvas is `[BOS] text EOS..` (lm), `prompt [BOS] answer EOS..` (seq2seq), `[BOS] sequence` (infill), or a packed row with BOS
in front of each document. Its *free* columns may be masked: training masks a random part of them, decoding starts with all of
them masked. Both build the canvas in the same place, so a row is decoded in the very columns that it is trained in. Padding is
on the right.

A text has a slot of `length` + 1 columns, all free, and EOS stands wherever the text does not: where the first EOS is
predicted is where the text ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from xlm_core.canvas import Specials, pad
from xlm_core.errors import ConfigError, DataError
from xlm_core.protocols import Batch, Example, Layout, Stage, Tokenizer
from xlm_core.sampling.random import RowRandom
from xlm_family_dream.config import CollatorConfig

Row: TypeAlias = Any
"""(n,) int64 array, which is as good as the `Sequence[int]` that it stands for."""


class DreamBatch(Batch, total=False):
    """`input_ids` (B, L) is the canvas with masks. In `train` and `evaluate`, `target_ids` (B, L) int64 is the one without."""

    target_mask: Tensor
    """(B, L) bool, train and evaluate: the masked columns."""
    predicted: Tensor
    """(N,) int64, train and evaluate: those columns again, as ascending indices into the flattened (B * L) canvas."""
    source: Tensor
    """(N,) int64, train and evaluate: the columns that they are predicted from, each the one before; its own where a text has
    nothing before."""
    free: Tensor
    """(B,) int64, train and evaluate: how many columns may be masked."""
    tokens: Tensor
    """(B,) int64, train and evaluate: how many of those the text has, its first EOS included."""
    segment_ids: Tensor
    """(B, L) int64, packed rows only: equal within a document, -1 on padding."""
    positions: Tensor
    """(B, L) int64, packed rows only: counted from the beginning of each document."""
    start: Tensor
    """(B,) int64, predict: the column where the answer begins."""
    stop: Tensor
    """(B,) int64, predict: the column behind the last that it may have."""
    ends: Tensor
    """(B,) bool, predict: whether the answer's end is to be found, by writing EOS."""


STREAM = 1
"""The collator's own random numbers: a decoder with the same seed and draw uses others."""


@dataclass(frozen=True)
class _Canvas:
    """Clean rows. What may be written of a row begins at column `start` and has `tokens` columns without the fill."""

    ids: Tensor
    mask: Tensor
    free: Tensor
    start: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class DreamCollator:
    """Examples of one layout to `DreamBatch`. Raises `ConfigError` for a row that does not fit; it never cuts one."""

    cfg: CollatorConfig
    specials: Specials
    layout: Layout
    stage: Stage

    def __call__(self, examples: Sequence[Example]) -> DreamBatch:
        draw = torch.tensor([example["draw"] for example in examples])
        if self.stage == "predict":
            return self._predict(draw, examples)
        if "segment_ids" in examples[0]:
            canvas, extra = self._packed(examples)
            before = extra["positions"] > 0
        else:
            canvas, extra = self._canvas(examples), {}
            before = torch.arange(canvas.ids.shape[1]).expand(canvas.ids.shape) > 0
        masked = random_mask(draw, canvas.free, self.cfg.seed)
        predicted = masked.flatten().nonzero()[:, 0]
        return {
            "draw": draw,
            "input_ids": canvas.ids.masked_fill(masked, self.specials.mask),
            "attention_mask": canvas.mask,
            "target_ids": canvas.ids,
            "target_mask": masked,
            "predicted": predicted,
            "source": predicted - before.flatten()[predicted].long(),
            "free": canvas.free.sum(-1),
            "tokens": canvas.tokens,
            **extra,
        }

    def _predict(self, draw: Tensor, examples: Sequence[Example]) -> DreamBatch:
        """The canvas with every free column masked, and the true answer if the examples have one."""
        canvas = self._canvas(examples)
        infill = self.layout == "infill"
        batch: DreamBatch = {
            "draw": draw,
            "input_ids": canvas.ids.masked_fill(canvas.free, self.specials.mask),
            "attention_mask": canvas.mask,
            "start": canvas.start,
            "stop": canvas.mask.sum(-1),
            "ends": torch.full_like(canvas.mask[:, 0], not infill),
        }
        if self.layout != "lm" and "input_ids" in examples[0]:
            batch["target_ids"] = pad([example["input_ids"] for example in examples], self.specials.pad).ids
        return batch

    def _canvas(self, examples: Sequence[Example]) -> _Canvas:
        if self.layout == "infill":
            return self._holes(examples)
        heads = [self._head(example) for example in examples]
        texts = [self._text(example) for example in examples]
        rows: list[Row] = [np.concatenate([*both, self._fill(*both)]) for both in zip(heads, texts, strict=True)]
        whole = pad(rows, self.specials.pad, width=self._width)
        start = torch.tensor([len(head) for head in heads])
        free = whole.mask & (torch.arange(whole.ids.shape[1]) >= start[:, None])
        return _Canvas(whole.ids, whole.mask, free, start, torch.tensor([len(text) + 1 for text in texts]))

    def _head(self, example: Example) -> Row:
        """What stands before the text, and is never masked."""
        prompt = np.asarray(example.get("prompt_ids", ()), np.int64)
        place = len(prompt) if self.layout == "seq2seq" else 0
        return np.insert(prompt, place, self.specials.bos) if self.cfg.bos else prompt

    def _text(self, example: Example) -> Row:
        text = () if self.stage == "predict" else example["input_ids"]
        return np.asarray(text, np.int64)

    def _fill(self, head: Row, text: Row) -> Row:
        """EOS to the end of the slot. In lm, what a text begins with is a part of it."""
        begun = len(head) - self.cfg.bos if self.layout == "lm" else 0
        most = self.cfg.length - begun
        if len(text) > most:
            what = f"a text of {begun + len(text)} tokens is longer than {self.cfg.length}"
            raise ConfigError(what, "Raise data.length.")
        closing = 0 if self.cfg.packed and self.stage == "predict" else 1
        return np.full(most - len(text) + closing, self.specials.eos)

    def _holes(self, examples: Sequence[Example]) -> _Canvas:
        begin = [self.specials.bos] if self.cfg.bos else []
        texts = [self._begun(begin, example["input_ids"]) for example in examples]
        given = [self._begun(begin, example["prompt_ids"]) for example in examples]
        if any(len(row) != len(text) for row, text in zip(given, texts, strict=True)):
            what = "prompt_ids and input_ids of an infill row differ in length"
            raise DataError(what, "prompt_ids is input_ids with mask tokens in it.")
        whole = pad(texts, self.specials.pad, width=self._width)
        free = pad(given, self.specials.pad, width=whole.ids.shape[1]).ids == self.specials.mask
        if self.cfg.mask_given and self.stage != "predict":
            free = whole.mask & (torch.arange(whole.ids.shape[1]) >= len(begin))
        start = torch.full((len(texts),), len(begin))
        return _Canvas(whole.ids, whole.mask, free, start, free.sum(-1))

    @staticmethod
    def _begun(begin: list[int], ids: Sequence[int]) -> Row:
        return np.concatenate([begin, np.asarray(ids, np.int64)]).astype(np.int64)

    def _packed(self, examples: Sequence[Example]) -> tuple[_Canvas, DreamBatch]:
        """With BOS, as wide as the row with most documents makes it, whatever `pad_to_longest` says."""
        parts = [self._documents(example) for example in examples]
        ids, segments, free = zip(*parts, strict=True)
        width = None if self.cfg.bos or self.cfg.pad_to_longest else self.cfg.length
        rows = pad(ids, self.specials.pad, width=width)
        columns = torch.arange(rows.ids.shape[1])
        segment_ids = pad(segments, -1, width=width).ids
        begins = torch.ones_like(rows.mask)
        begins[:, 1:] = segment_ids[:, 1:] != segment_ids[:, :-1]
        extra: DreamBatch = {"segment_ids": segment_ids, "positions": columns - (columns * begins).cummax(-1).values}
        free_columns = pad(free, 0, width=width).ids.bool()
        tokens = free_columns.sum(-1)
        return _Canvas(rows.ids, rows.mask, free_columns, torch.zeros_like(tokens), tokens), extra

    def _documents(self, example: Example) -> tuple[Row, Row, Row]:
        """Ids and segments of a packed row, and which of its columns are free: all but the BOS in front of each document."""
        ids, segments = np.asarray(example["input_ids"], np.int64), np.asarray(example["segment_ids"], np.int64)
        if len(ids) > self.cfg.length:
            raise ConfigError(f"a packed row of {len(ids)} tokens does not fit {self.cfg.length}", "Raise data.length.")
        free = np.ones_like(ids)
        if not self.cfg.bos:
            return ids, segments, free
        begins = np.flatnonzero(np.diff(segments, prepend=-1))
        return (
            np.insert(ids, begins, self.specials.bos),
            np.insert(segments, begins, segments[begins]),
            np.insert(free, begins, 0),
        )

    @property
    def _width(self) -> int | None:
        """Columns of the longest possible row, where batches are all that wide."""
        if self.cfg.pad_to_longest:
            return None
        closing = 0 if self.layout == "infill" or (self.cfg.packed and self.stage == "predict") else 1
        return self.cfg.bos + (self.cfg.prompt_length if self.layout == "seq2seq" else 0) + self.cfg.length + closing


def random_mask(draw: Tensor, free: Tensor, seed: int) -> Tensor:
    """(B, L) bool: for each row a number k uniform on 1 .. n, then k of its n free columns, all sets of k alike.

    It is the mask of masked diffusion at a uniform time, given that there is one.

    Args:
        draw: (B,) int64.
        free: (B, L) bool.
    """
    random = RowRandom(seed, draw, STREAM)
    count = 1 + random.integers(0, free.sum(-1).clamp(min=1))
    return free & (random.permutation_ranks(1, free) < count[:, None])


def collator(cfg: CollatorConfig, tokenizer: Tokenizer, layout: Layout, stage: Stage) -> DreamCollator:
    return DreamCollator(cfg, Specials.of(tokenizer), layout, stage)
