"""Clean rows to canvases with masks, for training and for decoding alike.

A canvas is `text EOS..` (lm), `prompt [BOS] answer EOS..` (seq2seq), the sequence itself (infill), or a packed row as it is.
Its *free* columns may be masked: training masks a random part of them, decoding starts with all of them masked. Both build the
canvas in the same place, so a row is decoded in the very columns that it is trained in. Padding is on the right.

With `fill` a text has a slot of `length` + 1 columns, all free, and EOS stands wherever the text does not: where the first EOS
is predicted is where the text ends. Without, one EOS closes the text and is never masked: it tells nothing that the width of
the canvas does not.
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
from xlm_core.sampling.categorical import categorical
from xlm_core.sampling.random import RowRandom
from xlm_family_mlm.config import CollatorConfig

Row: TypeAlias = Any
"""(n,) int64 array, which is as good as the `Sequence[int]` that it stands for."""


class MlmBatch(Batch, total=False):
    """`input_ids` (B, L) is the canvas with masks. In `train` and `evaluate`, `target_ids` (B, L) int64 is the one without."""

    target_mask: Tensor
    """(B, L) bool, train and evaluate: the columns whose token is predicted."""
    predicted: Tensor
    """(N,) int64, train and evaluate: those columns again, as ascending indices into the flattened (B * L) canvas. Made here,
    so that the device is never asked how many there are."""
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
    """Clean rows. The text of a row is its columns start .. stop - 1."""

    ids: Tensor
    mask: Tensor
    free: Tensor
    start: Tensor
    stop: Tensor


@dataclass(frozen=True)
class MlmCollator:
    """Examples of one layout to `MlmBatch`. Raises `ConfigError` for a row that does not fit; it never cuts one."""

    cfg: CollatorConfig
    specials: Specials
    layout: Layout
    stage: Stage

    def __post_init__(self) -> None:
        lengths = self.cfg.lengths
        if lengths is None:
            return
        if self._fills:
            hint = "Train and decode with collator.fill=false, or leave collator.lengths out."
            raise ConfigError("with collator.fill the network finds the lengths, so collator.lengths cannot give them", hint)
        if not lengths or not all(0 <= n <= self.cfg.length and weight > 0 for n, weight in lengths.items()):
            what = f"collator.lengths needs weights above 0 of lengths up to {self.cfg.length}"
            raise ConfigError(what, "As {10: 0.5, 11: 0.5}.")

    def __call__(self, examples: Sequence[Example]) -> MlmBatch:
        draw = torch.tensor([example["draw"] for example in examples])
        if self.stage == "predict":
            return self._predict(draw, examples)
        if "segment_ids" in examples[0]:
            canvas, extra = self._packed(examples)
        else:
            answers = [np.asarray(example["input_ids"], np.int64) for example in examples]
            canvas, extra = self._canvas(examples, answers), {}
        masked = random_mask(draw, canvas.free, self.cfg.seed)
        target_mask = (canvas.free if self.cfg.visible_in_loss else masked) & self._counted(canvas)
        return {
            "draw": draw,
            "input_ids": canvas.ids.masked_fill(masked, self.specials.mask),
            "attention_mask": canvas.mask,
            "target_ids": canvas.ids,
            "target_mask": target_mask,
            "predicted": target_mask.flatten().nonzero()[:, 0],
            **extra,
        }

    def _predict(self, draw: Tensor, examples: Sequence[Example]) -> MlmBatch:
        """The canvas with every free column masked, and the true answer if the examples have one."""
        if self.layout == "infill":
            canvas = self._canvas(examples, [np.asarray(example["input_ids"], np.int64) for example in examples])
        else:
            canvas = self._canvas(examples, [np.full(n, self.specials.mask) for n in self._lengths(draw, examples)])
        finds = self.layout != "infill" and self._finds_end
        batch: MlmBatch = {
            "draw": draw,
            "input_ids": canvas.ids.masked_fill(canvas.free, self.specials.mask),
            "attention_mask": canvas.mask,
            "start": canvas.start,
            "stop": canvas.stop if self.layout == "infill" else canvas.start + canvas.free.sum(-1),
            "ends": torch.full_like(canvas.mask[:, 0], finds),
        }
        if self.layout != "lm" and "input_ids" in examples[0]:
            batch["target_ids"] = pad([example["input_ids"] for example in examples], self.specials.pad).ids
        return batch

    def _canvas(self, examples: Sequence[Example], texts: Sequence[Row]) -> _Canvas:
        if self.layout == "infill":
            return self._holes(examples, texts)
        heads = [self._head(example) for example in examples]
        rows: list[Row] = [
            np.concatenate([head, text, self._close(head, text)]) for head, text in zip(heads, texts, strict=True)
        ]
        whole = pad(rows, self.specials.pad, width=self._width(self._longest))
        start = torch.tensor([len(head) for head in heads])
        stop = start + torch.tensor([len(text) for text in texts])
        columns = torch.arange(whole.ids.shape[1])
        last = whole.mask.sum(-1) if self._finds_end else stop
        free = (columns >= start[:, None]) & (columns < last[:, None])
        return _Canvas(whole.ids, whole.mask, free, start, stop)

    def _holes(self, examples: Sequence[Example], texts: Sequence[Row]) -> _Canvas:
        given: list[Row] = [np.asarray(example["prompt_ids"], np.int64) for example in examples]
        if any(len(row) != len(text) for row, text in zip(given, texts, strict=True)):
            raise DataError(
                "prompt_ids and input_ids of an infill row differ in length", "prompt_ids is input_ids with mask tokens in it."
            )
        whole = pad(texts, self.specials.pad, width=self._width(self._longest))
        holes = pad(given, self.specials.pad, width=whole.ids.shape[1]).ids == self.specials.mask
        everywhere = self.cfg.mask_given and self.stage != "predict"
        stop = whole.mask.sum(-1)
        return _Canvas(whole.ids, whole.mask, whole.mask if everywhere else holes, torch.zeros_like(stop), stop)

    def _packed(self, examples: Sequence[Example]) -> tuple[_Canvas, MlmBatch]:
        width = self._width(self.cfg.length)
        rows = pad([example["input_ids"] for example in examples], self.specials.pad, width=width)
        segments = pad([example["segment_ids"] for example in examples], -1, width=width).ids
        begins = torch.ones_like(rows.mask)
        begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
        columns = torch.arange(rows.ids.shape[1])
        stop = rows.mask.sum(-1)
        extra: MlmBatch = {"segment_ids": segments, "positions": columns - (columns * begins).cummax(-1).values}
        return _Canvas(rows.ids, rows.mask, rows.mask, torch.zeros_like(stop), stop), extra

    def _head(self, example: Example) -> Row:
        """What stands before the text, and is never masked."""
        prompt = np.asarray(example.get("prompt_ids", ()), np.int64)
        return np.append(prompt, self.specials.bos) if self.layout == "seq2seq" else prompt

    def _close(self, head: Row, text: Row) -> Row:
        """What stands behind the text."""
        rest = self._room(len(head)) - len(text)
        if rest < 0:
            most = self.cfg.length
            raise ConfigError(f"a text of {most - rest} tokens is longer than {most}", "Raise data.length.")
        count = 0 if self._open else rest + 1 if self._fills else 1
        return np.full(count, self.specials.eos)

    def _room(self, head: int) -> int:
        """How many tokens a text may have. In lm, what it begins with is a part of it."""
        return self.cfg.length - (head if self.layout == "lm" else 0)

    def _lengths(self, draw: Tensor, examples: Sequence[Example]) -> list[int]:
        """How many masks stand before the EOS that closes the text, if one does."""
        heads = [len(self._head(example)) for example in examples]
        if self.cfg.lengths is None:
            # A slot is masked to its end: a text with no mask of its own fills it.
            return [0 if self._fills else max(self._room(head), 0) for head in heads]
        shortest = torch.tensor(heads) if self.layout == "lm" else torch.zeros_like(draw)
        return (random_lengths(draw, self.cfg.lengths, shortest, self.cfg.seed) - shortest).tolist()

    def _counted(self, canvas: _Canvas) -> Tensor:
        """(B, L) or (L,) bool: False on the EOS that the loss leaves out."""
        columns = torch.arange(canvas.ids.shape[1])
        most = self.cfg.fill_in_loss
        return columns >= 0 if most is None else columns <= canvas.stop[:, None] + most

    @property
    def _fills(self) -> bool:
        return self.cfg.fill and not self.cfg.packed

    @property
    def _finds_end(self) -> bool:
        """Whether EOS is among the free columns."""
        return self._fills or self._open

    @property
    def _open(self) -> bool:
        """Whether no EOS stands behind the text: to decode as many columns as a packed row has."""
        return self.cfg.packed and self.cfg.lengths is None

    @property
    def _longest(self) -> int:
        """Columns of the longest possible row."""
        specials = {"lm": 0 if self._open else 1, "seq2seq": self.cfg.prompt_length + 2, "infill": 0}
        return self.cfg.length + specials[self.layout]

    def _width(self, widest: int) -> int | None:
        return None if self.cfg.pad_to_longest else widest


def random_mask(draw: Tensor, free: Tensor, seed: int) -> Tensor:
    """(B, L) bool: a ratio uniform on (0, 1) for each row, then each free column with that probability.

    So, of n free columns, every number from 0 to n is equally likely to be masked.

    Args:
        draw: (B,) int64.
        free: (B, L) bool.
    """
    random = RowRandom(seed, draw, STREAM)
    return free & (random.uniform(1, (free.shape[1],)) < random.uniform(0)[:, None])


def random_lengths(draw: Tensor, weights: dict[int, float], shortest: Tensor, seed: int) -> Tensor:
    """(B,) int64: lengths drawn with probabilities proportional to their weights, among those that are not too short.

    Args:
        draw: (B,) int64.
        weights: of each length, above 0.
        shortest: (B,) int64: a row's least length.

    Raises:
        ConfigError: all lengths are too short for a row.
    """
    lengths = torch.tensor(sorted(weights))
    short = lengths < shortest[:, None]
    if short.all(-1).any():
        raise ConfigError(f"collator.lengths has no length for a prompt of {int(shortest.max())} tokens", "Add longer ones.")
    logits = torch.tensor([weights[n] for n in sorted(weights)], dtype=torch.float64).log().masked_fill(short, -torch.inf)
    return lengths[categorical(logits, RowRandom(seed, draw, STREAM).uniform(2)).index]


def collator(cfg: CollatorConfig, tokenizer: Tokenizer, layout: Layout, stage: Stage) -> MlmCollator:
    return MlmCollator(cfg, Specials.of(tokenizer), layout, stage)
