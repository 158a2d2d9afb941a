"""Canvases that grow while they are decoded: masks are inserted into gaps, and masks become tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from xlm_core.canvas import Specials
from xlm_family_flexmdm.collator import FlexmdmBatch


@dataclass
class Canvas:
    """A batch of rows in buffers of W columns, as wide as a row can get. What was visible at the start never changes."""

    ids: Tensor
    """(B, W) int64."""
    waiting: Tensor
    """(B, W) bool: masks that were inserted and are not tokens yet."""
    open: Tensor
    """(B, W) bool: columns whose left gap may receive masks."""
    length: Tensor
    """(B,) int64: columns that are used."""
    limit: Tensor
    """(B,) int64: the length that a row can have at most."""
    start: Tensor
    """(B,) int64: where the answer begins. It ends before the EOS in the last column."""
    specials: Specials

    @classmethod
    def begin(cls, batch: FlexmdmBatch, most: int, specials: Specials) -> Canvas:
        """Canvases with room for `most` insertions in each row."""
        ids = F.pad(batch["input_ids"], (0, most), value=specials.pad)
        length = batch["attention_mask"].sum(-1)
        open_gaps = F.pad(batch["open"], (0, most))
        return cls(ids, torch.zeros_like(open_gaps), open_gaps, length, length + most, batch["start"], specials)

    @property
    def room(self) -> Tensor:
        """(B,) int64: how many more insertions a row can take."""
        return self.limit - self.length

    @property
    def growing(self) -> Tensor:
        """(B,) bool: rows that can still take an insertion."""
        return self.open.any(-1) & (self.room > 0)

    def grow(self, rows: Tensor, counts: Tensor) -> Tensor:
        """Insert masks left of columns, and move what follows them.

        Args:
            rows: (N,) int64.
            counts: (N, C) int64, how many left of each of the first C columns; in a row no more than it has room for.

        Returns:
            (N, W) bool: where the new masks are.
        """
        width = self.ids.shape[1]
        column = torch.arange(width, device=rows.device)
        shift = F.pad(counts, (0, width - counts.shape[1])).cumsum(-1)
        place = torch.where(column < self.length[rows, None], column + shift, width)
        self.length[rows] += shift[:, -1]
        inside = column < self.length[rows, None]

        def spread(values: Tensor, new: int | bool) -> Tensor:
            moved = values.new_full((len(rows), width + 1), new).scatter_(1, place, values)
            return moved[:, :width]

        self.ids[rows] = spread(self.ids[rows], self.specials.mask).masked_fill(~inside, self.specials.pad)
        self.waiting[rows] = spread(self.waiting[rows], True) & inside
        self.open[rows] = spread(self.open[rows], True) & inside
        return spread(torch.zeros_like(inside), True) & inside

    def answers(self) -> Tensor:
        """(B, T) int64: the answers, right-padded."""
        counts = self.length - self.start - 1
        columns = torch.arange(int(counts.max()) if len(counts) else 0, device=counts.device)
        taken = self.ids.gather(1, (columns + self.start[:, None]).clamp_(max=self.ids.shape[1] - 1))
        return taken.masked_fill(columns >= counts[:, None], self.specials.pad)

    def answer_lists(self) -> list[list[int]]:
        """The answers without padding."""
        bounds = zip(self.ids.tolist(), self.start.tolist(), self.length.tolist(), strict=True)
        return [row[start : length - 1] for row, start, length in bounds]
