"""Clean rows to canvases whose free tokens noise may hide or remove, and to the canvases that decoding starts from.

A canvas is `BOS text EOS` (lm, infill) or `prompt BOS target EOS` (seq2seq), padded on the right. Free are the tokens of the
text or target, in infill those at the holes. A column's *gap* is the place left of it: EOS is always there and owns the last
one, and is never generated. Open are the gaps of free tokens and of the token behind them, and in lm and seq2seq that of EOS.
Noise is drawn on the device, by the loss. Decoding starts from the same canvas with every free token taken out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xlm_core.canvas import Specials, pad
from xlm_core.protocols import Batch, Example, Layout, Stage, Tokenizer
from xlm_family_flexmdm import noising
from xlm_family_flexmdm.config import CollatorConfig


class FlexmdmBatch(Batch, total=False):
    """`input_ids` (B, L) is clean in `train` and `evaluate`, and without its free tokens in `predict`."""

    free: Tensor
    """(B, L) bool, train and evaluate: tokens that may be masked or absent."""
    open: Tensor
    """(B, L) bool: columns whose left gap may receive tokens."""
    start: Tensor
    """(B,) int64, predict: the column where the answer begins."""


@dataclass(frozen=True)
class FlexmdmCollator:
    """Examples of one layout to `FlexmdmBatch`. Raises `ConfigError` for a row that does not fit; it never cuts one."""

    cfg: CollatorConfig
    specials: Specials
    layout: Layout
    stage: Stage

    def __call__(self, examples: Sequence[Example]) -> FlexmdmBatch:
        draw = torch.tensor([example["draw"] for example in examples])
        batch = self._canvas(examples)
        batch["draw"] = draw
        return self._emptied(batch, examples) if self.stage == "predict" else batch

    def _canvas(self, examples: Sequence[Example]) -> FlexmdmBatch:
        ids, free = zip(*(self._row(example) for example in examples), strict=True)
        canvas = pad(ids, self.specials.pad, width=self._width)
        width = canvas.ids.shape[1]
        free_BL = pad(free, 0, width=width).ids.bool()
        behind = torch.nn.functional.pad(free_BL, (1, -1))
        open_BL = free_BL | behind
        if self.layout != "infill":
            open_BL |= torch.arange(width) == canvas.mask.sum(-1, keepdim=True) - 1
        return {"input_ids": canvas.ids, "attention_mask": canvas.mask, "free": free_BL, "open": open_BL}

    def _row(self, example: Example) -> tuple[list[int], list[bool]]:
        """Ids of the clean canvas, and which of them are free."""
        s = self.specials
        text, prompt = list(example.get("input_ids", ())), list(example.get("prompt_ids", ()))
        if self.layout == "infill":
            return [s.bos, *text, s.eos], [False, *(token == s.mask for token in prompt), False]
        head = [*prompt, s.bos] if self.layout == "seq2seq" else [s.bos, *prompt]
        return [*head, *text, s.eos], [False] * len(head) + [True] * len(text) + [False]

    def _emptied(self, clean: FlexmdmBatch, examples: Sequence[Example]) -> FlexmdmBatch:
        """The canvases at time 0, and the true answers if there are any."""
        mask, free = clean["attention_mask"], clean["free"]
        fate = noising.Fate(absent=free, masked=torch.zeros_like(free))
        longest = int((mask & ~free).sum(-1).max())
        begun = noising.apply(clean["input_ids"], mask, clean["open"], fate, self.specials, longest)
        batch: FlexmdmBatch = {
            "draw": clean["draw"],
            "input_ids": begun.ids,
            "attention_mask": begun.mask,
            "open": begun.open,
            "start": torch.tensor([self._start(example) for example in examples]),
        }
        if self.layout != "lm" and "input_ids" in examples[0]:
            batch["target_ids"] = pad([example["input_ids"] for example in examples], self.specials.pad).ids
        return batch

    def _start(self, example: Example) -> int:
        return 1 if self.layout == "infill" else 1 + len(example.get("prompt_ids", ()))

    @property
    def _width(self) -> int | None:
        """The width that all training batches share, when they are to share one. Decoding starts from the shortest canvas."""
        if self.cfg.pad_to_longest or self.stage == "predict":
            return None
        return self.cfg.length + 2 + (self.cfg.prompt_length if self.layout == "seq2seq" else 0)


def collator(cfg: CollatorConfig, tokenizer: Tokenizer, layout: Layout, stage: Stage) -> FlexmdmCollator:
    return FlexmdmCollator(cfg, Specials.of(tokenizer), layout, stage)
