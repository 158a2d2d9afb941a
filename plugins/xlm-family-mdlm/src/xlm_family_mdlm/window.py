"""The canvases of a batch while they are filled, and the answers that are read off them.

A text that is longer than the canvas is written window by window: the last tokens move to the left, to be read only, and make
room for new masked columns (semi-autoregressive decoding, Sahoo et al., 2024, arXiv 2406.07524). What stands before the answer
stays where it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xlm_core.canvas import Specials
from xlm_core.trace import Recorder, Trace
from xlm_family_mdlm.collator import MdlmBatch
from xlm_family_mdlm.model import readable


@dataclass
class Window:
    """B canvases of L columns. Its tensors are its own: they are written in place."""

    ids: Tensor
    """(B, L) int64."""
    free: Tensor
    """(B, L) bool: columns that may be written. No other ever changes."""
    start: Tensor
    """(B,) int64: the column where the text or answer begins."""
    end: Tensor
    """(B,) int64: the column behind the canvas."""
    offset: Tensor
    """(B,) int64: tokens of the answer that are before `start`, in earlier windows."""
    confidence: Tensor
    """(B, L) float64: the probability that each column's token had when it was drawn; 1 where none was."""

    @classmethod
    def first(cls, batch: MdlmBatch) -> Window:
        ids, end = batch["input_ids"].clone(), batch["attention_mask"].sum(-1)
        return cls(ids, batch["free"], batch["start"], end, torch.zeros_like(end), torch.ones_like(ids, dtype=torch.float64))

    @property
    def columns(self) -> Tensor:
        return torch.arange(self.ids.shape[1], device=self.ids.device)

    @property
    def answer(self) -> Tensor:
        """(B, L) bool: the columns of the text or answer."""
        return (self.columns >= self.start[:, None]) & (self.columns < self.end[:, None])

    def slide(self, stride: int | None, most: int, specials: Specials) -> bool:
        """Make room for further tokens in the rows that have neither ended nor `most` tokens; in the others nothing stays free.

        Args:
            stride: new columns; half of the window when None, and never more than it has.

        Returns:
            Whether there is such a row.
        """
        size = self.end - self.start
        last = (self.end - 1).clamp(min=0)[:, None]
        going = readable(self.ids, self.start, specials).gather(1, last) & (self.ids.gather(1, last) != specials.eos)
        going = going[:, 0] & (self.offset + size < most)
        step = torch.full_like(size, stride).minimum(size) if stride else (size + 1) // 2
        source = self.columns + step[:, None]
        new = source >= self.end[:, None]
        moved = self.ids.gather(1, source.clamp(max=self.ids.shape[1] - 1)).masked_fill(new, specials.mask)
        changes = self.answer & going[:, None]
        self.ids = torch.where(changes, moved, self.ids)
        self.free = changes & new
        self.offset = self.offset + step * going
        return bool(going.any())


class Answers:
    """What has been written so far, without what stands before it.

    Args:
        window: the first one, before anything is written.
        most: tokens that a row may grow to behind its canvas.
    """

    def __init__(self, window: Window, most: int, specials: Specials) -> None:
        self.specials = specials
        self._limit = (window.end - window.start).clamp(min=most)[:, None]
        rows, columns = window.ids.shape
        self._ids = window.ids.new_full((rows, max(columns, most) + 1), specials.mask)
        self.write(window)
        self._starts = self._ids.clone()

    def write(self, window: Window) -> None:
        """Take over the window's part of each answer."""
        place = window.columns + (window.offset - window.start)[:, None]
        inside = window.answer & (place < self._limit)
        spare = self._ids.shape[1] - 1
        self._ids.scatter_(1, torch.where(inside, place, spare), window.ids)
        self._ids[:, spare] = self.specials.pad

    def ids(self) -> Tensor:
        """(B, T) int64: each answer up to its first EOS or padding, and padding from there on."""
        s = self.specials
        over = (self._ids == s.eos) | (self._ids == s.pad) | (self._ids == s.mask)
        ids = self._ids.masked_fill(over.long().cumsum(-1) > 0, s.pad)
        return ids[:, : int((ids != s.pad).sum(-1).max())] if len(ids) else ids

    def traces(self, recorder: Recorder) -> list[Trace]:
        """One a row. What happened behind the end of an answer is left out."""
        lengths = (self.ids() != self.specials.pad).sum(-1).tolist()
        rows = zip(self._starts.tolist(), lengths, strict=True)
        whole = recorder.traces([start[:length] for start, length in rows])
        return [
            Trace(trace.start, [event for event in trace.events if event.position < length])
            for trace, length in zip(whole, lengths, strict=True)
        ]
