"""Clean rows to canvases whose free columns diffusion may mask, and to the canvases that decoding starts from.

A canvas is `BOS text EOS` (lm), `prompt BOS target EOS` (seq2seq) or `BOS text EOS` with only the holes free (infill), padded
on the right. BOS is always visible: with relative positions alone, a network could not tell one masked column from another.
With `padding: model` the text of an lm or seq2seq row is filled up to `length + 1` columns with padding that is as free as the
text: the law of the canvas is then that of texts of every length. Decoding starts from the same canvas with every free column
masked. An lm row with a prompt that is not to be decoded is a text that may go on: behind it stand masks that nobody scores.

A packed row holds documents that already end in EOS; each gets a BOS of its own, and all the rest is free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xlm_core.canvas import Specials, pad
from xlm_core.errors import ConfigError
from xlm_core.protocols import Batch, Example, Layout, Stage, Tokenizer
from xlm_family_mdlm.config import CollatorConfig

Ids = NDArray[np.int64]


class MdlmBatch(Batch, total=False):
    """`input_ids` (B, L) is clean in `train` and `evaluate`, and has the mask at free columns in `predict`.

    `attention_mask` (B, L) is False on all padding in `train` and `evaluate`, and behind the canvas in `predict`.
    """

    free: Tensor
    """(B, L) bool: columns that may be masked, or are to be filled."""
    start: Tensor
    """(B,) int64: the column where the text or answer begins."""
    segment_ids: Tensor
    """(B, L) int64, packed rows only: equal within a document, -1 on padding."""
    positions: Tensor
    """(B, L) int64, packed rows only: counted from the beginning of each document."""


class _Row(NamedTuple):
    ids: list[int]
    free: list[bool]
    real: list[bool]
    """Which columns are no padding."""
    start: int


@dataclass(frozen=True)
class MdlmCollator:
    """Examples of one layout to `MdlmBatch`. Raises `ConfigError` for a row that does not fit; it never cuts one."""

    cfg: CollatorConfig
    specials: Specials
    layout: Layout
    stage: Stage

    def __call__(self, examples: Sequence[Example]) -> MdlmBatch:
        draw = torch.tensor([example["draw"] for example in examples])
        if "segment_ids" in examples[0] and self.stage != "predict":
            return {"draw": draw, **self._packed(examples)}
        batch = self._canvas([self._row(example) for example in examples])
        batch["draw"] = draw
        if self.stage == "predict" and self.layout != "lm" and "input_ids" in examples[0]:
            batch["target_ids"] = pad([example["input_ids"] for example in examples], self.specials.pad).ids
        return batch

    def _canvas(self, rows: Sequence[_Row]) -> MdlmBatch:
        width = None if self.cfg.pad_to_longest else 1 + self.cfg.prompt_length + self.cfg.length + 1
        ids = pad([row.ids for row in rows], self.specials.pad, width=width).ids
        free, real = (pad([getattr(row, name) for row in rows], 0, width=ids.shape[1]).ids.bool() for name in ("free", "real"))
        if self.stage == "predict":
            ids = ids.masked_fill(free, self.specials.mask)
        start = torch.tensor([row.start for row in rows])
        return {"input_ids": ids, "attention_mask": real, "free": free, "start": start}

    def _row(self, example: Example) -> _Row:
        if self.layout == "infill":
            holes = [token == self.specials.mask for token in example["prompt_ids"]]
            ids = [self.specials.bos, *example["input_ids"], self.specials.eos]
            return _Row(ids, [False, *holes, False], [True] * len(ids), 1)
        prompt, room = list(example.get("prompt_ids", ())), self.cfg.length + 1
        if self.layout == "lm":
            room -= len(prompt)
        prompt = [*prompt, self.specials.bos] if self.layout == "seq2seq" else [self.specials.bos, *prompt]
        text, real = self._text(example, room)
        free = [self.stage == "predict" or token != self.specials.mask for token in text]
        return _Row(prompt + text, [False] * len(prompt) + free, [True] * len(prompt) + real, len(prompt))

    def _text(self, example: Example, room: int) -> tuple[list[int], list[bool]]:
        """The free columns, of which there are `room`, or as many as the text needs where its length is not modelled."""
        if self.stage == "predict":
            if room < 1:
                hint = "Shorten the prompt or raise data.length."
                raise ConfigError(f"a prompt leaves no room in a canvas of {self.cfg.length + 1} columns", hint)
            return [self.specials.mask] * room, [True] * room
        open_ended = self.layout == "lm" and "prompt_ids" in example
        text = [*example["input_ids"], self.specials.mask if open_ended else self.specials.eos]
        if len(text) > room:
            raise ConfigError(f"a row of {len(text) - 1} tokens does not fit a canvas of {room - 1}", "Raise data.length.")
        padding = room - len(text) if self.cfg.padding == "model" else 0
        if open_ended:
            return text + [self.specials.mask] * padding, [True] * (len(text) + padding)
        return text + [self.specials.pad] * padding, [True] * len(text) + [False] * padding

    def _packed(self, examples: Sequence[Example]) -> MdlmBatch:
        """As wide as the row with most documents makes it, whatever `pad_to_longest` says."""
        ids, segments, free = zip(*(_with_bos(example, self.specials.bos) for example in examples), strict=True)
        rows = pad(ids, self.specials.pad)
        columns = torch.arange(rows.ids.shape[1])
        free_columns = pad(free, 0).ids.bool()
        return {
            "input_ids": rows.ids,
            "attention_mask": rows.mask,
            "free": free_columns,
            "start": torch.zeros(len(examples), dtype=torch.long),
            "segment_ids": pad(segments, -1).ids,
            "positions": columns - (columns * ~free_columns).cummax(-1).values,
        }


def _with_bos(example: Example, bos: int) -> tuple[Ids, Ids, Ids]:
    """Ids and segments of a packed row with a BOS before each document, and which columns are not BOS."""
    ids, segments = (np.asarray(example[name], np.int64) for name in ("input_ids", "segment_ids"))
    begins = np.flatnonzero(np.diff(segments, prepend=-1))
    free = np.insert(np.ones_like(ids), begins, 0)
    return np.insert(ids, begins, bos), np.insert(segments, begins, segments[begins]), free


def collator(cfg: CollatorConfig, tokenizer: Tokenizer, layout: Layout, stage: Stage) -> MdlmCollator:
    """Raises `ConfigError` for an unknown `cfg.padding`."""
    if cfg.padding not in ("model", "ignore"):
        raise ConfigError(f"collator.padding={cfg.padding!r} is unknown", "One of model, ignore.")
    return MdlmCollator(cfg, Specials.of(tokenizer), layout, stage)
