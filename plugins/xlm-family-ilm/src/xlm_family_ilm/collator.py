"""Clean rows to canvases with tokens dropped, and to the canvases that decoding starts from.

A canvas is `[CLS] prompt [BOS] target` in seq2seq and `[CLS] [BOS] text` otherwise, padded on the right. A column's *gap* is
the place right of it. Training drops a random subset of the free tokens; each becomes a target at the gap of the nearest kept
token on its left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from xlm_core.canvas import Specials, pad
from xlm_core.protocols import Batch, Example, Layout, Stage, Tokenizer
from xlm_core.sampling.random import RowRandom
from xlm_family_ilm.config import CollatorConfig


class IlmBatch(Batch, total=False):
    """`input_ids` (B, L) is the canvas after dropping.

    G gaps and T targets are those of the row with most of them.
    """

    gaps: Tensor
    """(B, G) int64: columns whose gap may receive a token; 0 where `gap_mask` is False."""
    gap_mask: Tensor
    """(B, G) bool."""
    target_gaps: Tensor
    """(B, T) int64, train and evaluate: index into `gaps` of each dropped token."""
    target_tokens: Tensor
    """(B, T) int64: the dropped tokens, from left to right."""
    target_mask: Tensor
    """(B, T) bool."""
    start: Tensor
    """(B,) int64, predict: the column where the answer begins."""


STREAM = 1
"""The collator's own random numbers: a decoder with the same seed and draw uses others."""


class Dropped(NamedTuple):
    """Rows after dropping; everything is compacted to the left."""

    ids: Tensor
    mask: Tensor
    allowed: Tensor
    columns: Tensor
    """(B, T) int64: the column of the nearest kept token left of each dropped one."""
    tokens: Tensor
    """(B, T) int64: the dropped tokens."""
    token_mask: Tensor


class Widths(NamedTuple):
    """Columns of the tensors of a batch; None for as many as its fullest row needs."""

    canvas: int | None = None
    gaps: int | None = None
    targets: int | None = None


def compact(values: Tensor, keep: Tensor, fill: int, width: int | None = None) -> tuple[Tensor, Tensor]:
    """Move the kept entries of each row to its left, in order, in time linear in the number of entries.

    Args:
        values: (B, L).
        keep: (B, L) bool.
        fill: written behind them.
        width: W, at least the most that a row keeps, which is what it is when None.

    Returns:
        (B, W) values and (B, W) bool mask.
    """
    place = keep.long().cumsum(-1) - 1
    counts = keep.sum(-1)
    if width is None:
        width = int(counts.max()) if len(values) else 0
    out = values.new_full((len(values), width + 1), fill)
    out.scatter_(1, torch.where(keep, place, width), values)
    return out[:, :width], torch.arange(width) < counts[:, None]


def drop(ids: Tensor, mask: Tensor, allowed: Tensor, dropped: Tensor, pad_id: int, widths: Widths) -> Dropped:
    """Take tokens out of canvases and say where they were.

    Args:
        ids: (B, L) int64.
        mask: (B, L) bool, real tokens.
        allowed: (B, L) bool, columns whose gap may receive a token.
        dropped: (B, L) bool, the tokens to take out.
        widths: of the results.
    """
    kept = mask & ~dropped
    columns = kept.long().cumsum(-1) - 1  # of the nearest kept token at or left of each column
    short_ids, short_mask = compact(ids, kept, pad_id, widths.canvas)
    short_allowed, _ = compact(allowed.long(), kept, 0, widths.canvas)
    gap_columns, _ = compact(columns, dropped, 0, widths.targets)
    tokens, token_mask = compact(ids, dropped, pad_id, widths.targets)
    return Dropped(short_ids, short_mask, short_allowed.bool(), gap_columns, tokens, token_mask)


def random_subset(draw: Tensor, free: Tensor, seed: int) -> Tensor:
    """(B, L) bool: of n free tokens, N uniform on 0..n, then a uniformly random subset of that size.

    arXiv 2505.05755, section 3.

    Args:
        draw: (B,) int64.
        free: (B, L) bool.
    """
    random = RowRandom(seed, draw, STREAM)
    count = random.integers(0, free.sum(-1) + 1)
    return free & (random.permutation_ranks(1, free) < count[:, None])


@dataclass(frozen=True)
class IlmCollator:
    """Examples of one layout to `IlmBatch`."""

    cfg: CollatorConfig
    specials: Specials
    layout: Layout
    stage: Stage

    def __call__(self, examples: Sequence[Example]) -> IlmBatch:
        draw = torch.tensor([example["draw"] for example in examples])
        if self.stage == "predict":
            return self._predict(draw, examples)
        ids, mask, free, allowed = self._canvas([self._row(example) for example in examples])
        widths = self._widths
        rows = drop(ids, mask, allowed, random_subset(draw, free, self.cfg.seed), self.specials.pad, widths)
        batch = self._batch(draw, rows, widths.gaps)
        place = (rows.allowed.long().cumsum(-1) - 1).clamp(min=0)
        batch["target_gaps"] = place.gather(1, rows.columns)
        batch["target_tokens"], batch["target_mask"] = rows.tokens, rows.token_mask
        return batch

    def _predict(self, draw: Tensor, examples: Sequence[Example]) -> IlmBatch:
        """The canvas with every free token taken out, and the true answer if the examples have one."""
        ids, mask, free, allowed = self._canvas([self._row(example) for example in examples])
        rows = drop(ids, mask, allowed, free, self.specials.pad, Widths())
        batch = self._batch(draw, rows)
        held = 2 if self.layout == "infill" else 2 + torch.tensor([len(example.get("prompt_ids", ())) for example in examples])
        batch["start"] = torch.zeros_like(draw) + held
        if self.layout != "lm":
            batch["target_ids"] = pad([example["input_ids"] for example in examples], self.specials.pad).ids
        return batch

    def _batch(self, draw: Tensor, rows: Dropped, gaps: int | None = None) -> IlmBatch:
        columns = torch.arange(rows.ids.shape[1]).expand_as(rows.ids)
        open_gaps, gap_mask = compact(columns, rows.allowed, 0, gaps)
        return {"draw": draw, "input_ids": rows.ids, "attention_mask": rows.mask, "gaps": open_gaps, "gap_mask": gap_mask}

    def _row(self, example: Example) -> tuple[list[int], list[bool], list[bool]]:
        """Ids of the clean canvas, which of them are free to be dropped, and which gaps may receive a token."""
        s = self.specials
        target = list(example["input_ids"])
        if self.layout == "infill":
            holes = [token == s.mask for token in example["prompt_ids"]]
            ids, free = [s.cls, s.bos, *target], [False, False, *holes]
            after = [*free[1:], False]
            return ids, free, [False] + [a or b for a, b in zip(free[1:], after[1:], strict=True)]
        prompt = list(example.get("prompt_ids", ()))
        head = [s.cls, *prompt, s.bos] if self.layout == "seq2seq" else [s.cls, s.bos, *prompt]
        gaps = [False, *[self.cfg.insert_in_prompt] * len(prompt), True]
        return [*head, *target], [False] * len(head) + [True] * len(target), gaps + [True] * len(target)

    def _canvas(self, rows: Sequence[tuple[list[int], list[bool], list[bool]]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ids, free, allowed = zip(*rows, strict=True)
        canvas = pad(ids, self.specials.pad, width=self._widths.canvas)
        flags = [pad(flag, 0, width=canvas.ids.shape[1]).ids.bool() for flag in (free, allowed)]
        return canvas.ids, canvas.mask, flags[0], flags[1]

    @property
    def _widths(self) -> Widths:
        """The shapes that all training batches share, when they are to share them. Decoding starts from the shortest canvas."""
        if self.cfg.pad_to_longest or self.stage == "predict":
            return Widths()
        prompt, length = self.cfg.prompt_length, self.cfg.length
        return Widths(2 + prompt + length, 1 + length + (prompt if self.cfg.insert_in_prompt else 0), length)


def collator(cfg: CollatorConfig, tokenizer: Tokenizer, layout: Layout, stage: Stage) -> IlmCollator:
    return IlmCollator(cfg, Specials.of(tokenizer), layout, stage)
