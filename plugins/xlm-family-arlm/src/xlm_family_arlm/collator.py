"""Clean rows to teacher-forced canvases, and to the canvases that decoding starts from.

A training row is `[BOS] text [EOS]` (lm) or `prompt [BOS] target [EOS]` (seq2seq). The network reads all but its last token and
is asked, at each column, for the token after it: `target_ids` is aligned with `input_ids`, so nothing shifts anything later.
An lm row with a prompt is `[BOS] prompt text`, of which the text is asked for: it may go on.
Rows are contiguous and padded on the right, hence a causal network needs no mask.

A packed row holds documents that already end in EOS. Each is read from a BOS of its own, which takes the column of the EOS
before it (nothing is predicted from there): the canvas is as wide as the row, and a document is trained as it would be alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xlm_core.canvas import Canvas, Specials, pad
from xlm_core.protocols import Batch, Example, Layout, Stage, Tokenizer
from xlm_family_arlm.config import CollatorConfig


class ArlmBatch(Batch, total=False):
    """`input_ids` (B, L) is padded on the right in `train` and `evaluate`, on the left in `predict`.

    In `train` and `evaluate`, `target_ids` (B, L) int64 is the token after each column, special tokens included.
    """

    target_mask: Tensor
    """(B, L) bool, train and evaluate: the columns whose target counts."""
    predicted: Tensor
    """(N,) int64, train and evaluate: those columns again, as ascending indices into the flattened (B * L) canvas. Made here,
    so that the device is never asked how many there are."""
    segment_ids: Tensor
    """(B, L) int64, packed rows only: equal within a document, -1 on padding."""
    positions: Tensor
    """(B, L) int64, packed rows only: counted from the beginning of each document."""


@dataclass(frozen=True)
class ArlmCollator:
    """Examples of one layout to `ArlmBatch`. Raises `ConfigError` for a row that does not fit; it never cuts one."""

    cfg: CollatorConfig
    specials: Specials
    layout: Layout
    stage: Stage

    def __call__(self, examples: Sequence[Example]) -> ArlmBatch:
        draw = torch.tensor([example["draw"] for example in examples])
        if self.stage == "predict":
            return self._predict(draw, examples)
        batch = self._packed(examples) if "segment_ids" in examples[0] else self._rows(examples)
        batch["draw"] = draw
        batch["predicted"] = batch["target_mask"].flatten().nonzero()[:, 0]
        return batch

    def _rows(self, examples: Sequence[Example]) -> ArlmBatch:
        if self.layout == "lm" and "prompt_ids" in examples[0]:
            return self._continuations(examples)
        prompts = [self._prompt(example) for example in examples]
        rows = [
            [*prompt, self.specials.bos, *example["input_ids"], self.specials.eos]
            for prompt, example in zip(prompts, examples, strict=True)
        ]
        whole = pad(rows, self.specials.pad, width=self._width(1 + self._prompt_length + self.cfg.length + 1))
        read = whole.mask[:, 1:]  # every token but the last has one after it
        bos = torch.tensor([len(prompt) for prompt in prompts])[:, None]
        columns = torch.arange(read.shape[1])
        # The BOS behind a prompt is put there by the layout, so it is never a target.
        counted = columns != bos - 1 if self.cfg.loss_on_prompt else columns >= bos
        return {
            "input_ids": whole.ids[:, :-1].masked_fill(~read, self.specials.pad),
            "attention_mask": read,
            "target_ids": whole.ids[:, 1:],
            "target_mask": read & counted,
        }

    def _continuations(self, examples: Sequence[Example]) -> ArlmBatch:
        rows = [[self.specials.bos, *example["prompt_ids"], *example["input_ids"]] for example in examples]
        whole = pad(rows, self.specials.pad, width=self._width(1 + self.cfg.length))
        given = torch.tensor([len(example["prompt_ids"]) for example in examples])[:, None]
        read = whole.mask[:, 1:]
        return {
            "input_ids": whole.ids[:, :-1].masked_fill(~read, self.specials.pad),
            "attention_mask": read,
            "target_ids": whole.ids[:, 1:],
            "target_mask": read & (torch.arange(read.shape[1]) >= given),
        }

    def _packed(self, examples: Sequence[Example]) -> ArlmBatch:
        width = self._width(self.cfg.length)
        rows = pad([example["input_ids"] for example in examples], self.specials.pad, width=width)
        segments = pad([example["segment_ids"] for example in examples], -1, width=width).ids
        begins = torch.ones_like(rows.mask)
        begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
        read = rows.ids.roll(1, dims=1).masked_fill(begins, self.specials.bos)
        columns = torch.arange(rows.ids.shape[1])
        return {
            "input_ids": read.masked_fill(~rows.mask, self.specials.pad),
            "attention_mask": rows.mask,
            "target_ids": rows.ids,
            "target_mask": rows.mask,
            "segment_ids": segments,
            "positions": columns - (columns * begins).cummax(-1).values,
        }

    def _predict(self, draw: Tensor, examples: Sequence[Example]) -> ArlmBatch:
        """What stands before the answer, and the true answer if the examples have one."""
        canvas = self._start([list(example.get("prompt_ids", ())) for example in examples])
        batch: ArlmBatch = {"draw": draw, "input_ids": canvas.ids, "attention_mask": canvas.mask}
        if self.layout == "seq2seq" and "input_ids" in examples[0]:
            batch["target_ids"] = pad([example["input_ids"] for example in examples], self.specials.pad).ids
        return batch

    def _start(self, prompts: Sequence[list[int]]) -> Canvas:
        bos = [self.specials.bos]
        rows = [prompt + bos if self.layout == "seq2seq" else bos + prompt for prompt in prompts]
        # The lm layout promises no longest prompt: it may be anything that a user asks to be continued.
        width = self._width(self.cfg.prompt_length + 1) if self.layout == "seq2seq" else None
        return pad(rows, self.specials.pad, width=width, side="left")

    def _prompt(self, example: Example) -> Sequence[int]:
        return example["prompt_ids"] if self.layout == "seq2seq" else ()

    @property
    def _prompt_length(self) -> int:
        return self.cfg.prompt_length if self.layout == "seq2seq" else 0

    def _width(self, widest: int) -> int | None:
        return None if self.cfg.pad_to_longest else widest


def collator(cfg: CollatorConfig, tokenizer: Tokenizer, layout: Layout, stage: Stage) -> ArlmCollator:
    return ArlmCollator(cfg, Specials.of(tokenizer), layout, stage)
