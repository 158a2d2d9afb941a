"""Rows to canvases with masks, for training and for decoding alike.

A canvas is `text EOS EOS ..` (lm) or `prompt BOS answer EOS EOS ..` (seq2seq), with room for the longest text, so that the
first EOS says where a text ends. Training masks some of the text and its EOS, decoding starts with all of them masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xlm_core.canvas import Specials, pad
from xlm_core.errors import ConfigError
from xlm_core.protocols import Batch, Example, Layout, Stage
from xlm_core.sampling.random import RowRandom
from xlm_family_minimal.config import CollatorConfig

STREAM = 1
"""The collator's own random numbers: a decoder with the same seed and draw uses others."""


class MinimalBatch(Batch, total=False):
    """`input_ids` (B, L) is the canvas with masks; in `train` and `evaluate`, `target_ids` (B, L) int64 is the one without."""

    predicted: Tensor
    """(N,) int64, train and evaluate: the masked columns, as ascending indices into the flattened (B * L) canvas."""
    begin: Tensor
    """(B,) int64, predict: the column where the answer begins. It may have all columns from there on."""


@dataclass(frozen=True)
class MinimalCollator:
    """Examples of one layout to `MinimalBatch`."""

    cfg: CollatorConfig
    specials: Specials
    layout: Layout
    stage: Stage

    def __call__(self, examples: Sequence[Example]) -> MinimalBatch:
        draw = torch.tensor([example["draw"] for example in examples])
        heads = [self._head(example) for example in examples]
        predict = self.stage == "predict"
        texts: list[Sequence[int]] = [[] if predict else example["input_ids"] for example in examples]
        canvas = pad([[*h, *self._slot(h, text)] for h, text in zip(heads, texts, strict=True)], self.specials.pad)
        begin = torch.tensor([len(head) for head in heads])
        free = canvas.mask & (torch.arange(canvas.ids.shape[1]) >= begin[:, None])
        masked = free if predict else free & random_mask(draw, canvas.ids.shape[1], self.cfg.seed)
        ids = canvas.ids.masked_fill(masked, self.specials.mask)
        batch: MinimalBatch = {"draw": draw, "input_ids": ids, "attention_mask": canvas.mask}
        if not predict:
            return {**batch, "target_ids": canvas.ids, "predicted": masked.flatten().nonzero()[:, 0]}
        if self.layout == "seq2seq" and "input_ids" in examples[0]:
            batch["target_ids"] = pad([example["input_ids"] for example in examples], self.specials.pad).ids
        return {**batch, "begin": begin}

    def _head(self, example: Example) -> list[int]:
        """What stands before the text, and is never masked."""
        prompt = list(example.get("prompt_ids", ()))
        return [*prompt, self.specials.bos] if self.layout == "seq2seq" else prompt

    def _slot(self, head: Sequence[int], text: Sequence[int]) -> list[int]:
        """The text and the EOS behind it. In lm, what a text begins with is a part of it."""
        rest = self.cfg.length - len(text) - (len(head) if self.layout == "lm" else 0)
        if rest < 0:
            raise ConfigError(f"a text has {-rest} tokens more than data.length={self.cfg.length}", "Raise data.length.")
        return [*text, *[self.specials.eos] * (rest + 1)]


def random_mask(draw: Tensor, columns: int, seed: int) -> Tensor:
    """(B, columns) bool: for each row a ratio uniform on (0, 1), then each column with that probability.

    Args:
        draw: (B,) int64. A row's mask is a function of it and the seed, whatever else is in the batch.
    """
    random = RowRandom(seed, draw, STREAM)
    return random.uniform(1, (columns,)) < random.uniform(0)[:, None]
