"""From prompts to texts: what `generate`, the sample of a run and the harnesses of others have in common."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from xlm_core.config import RunConfig
from xlm_core.data import tokenizers
from xlm_core.protocols import Batch, Example, Model, Predictor, Tokenizer
from xlm_core.training import precision

if TYPE_CHECKING:
    from xlm_core.trace import Trace


@dataclass(frozen=True)
class Sample:
    """One generated text."""

    prompt: str
    text: str
    ids: list[int]
    nfe: int
    trace: Trace | None


@contextmanager
def inference(config: RunConfig, model: Model) -> Iterator[torch.device]:
    """The model in evaluation mode on the device of the config, in its precision."""
    device = torch.device(precision.accelerator(config.trainer.accelerator))
    model.to(device).eval()
    bf16 = precision.choose(config.trainer.precision, device.type).name == "bf16-mixed"
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        yield device


def decode(
    predictor: Predictor,
    tokenizer: Tokenizer,
    batch: Batch,
    examples: Sequence[Example],
    device: torch.device,
    *,
    seed: int,
    trace: bool,
) -> Iterator[Sample]:
    """Decode a `predict` batch of the examples."""
    prediction = predictor.predict(moved(batch, device), seed=seed, trace=trace)
    traces = prediction.traces or itertools.repeat(None)
    for example, row, nfe, log in zip(examples, prediction.ids.tolist(), prediction.nfe.tolist(), traces, strict=False):
        ids = [token for token in row if token != tokenizer.pad_token_id]
        prompt = tokenizer.decode(list(example.get("prompt_ids", ())), skip_special_tokens=False)
        yield Sample(str(prompt), str(tokenizer.decode(ids, skip_special_tokens=True)), ids, nfe, log)


def moved(batch: Batch, device: torch.device) -> Any:
    return {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}


def prompted(tokenizer: Tokenizer, layout: str, prompts: Sequence[str], n: int) -> list[Example]:
    """`n` examples to decode for each typed prompt."""
    infill = layout == "infill"
    ids = [_prompt_ids(tokenizer, prompt, holes=infill) for prompt in prompts]
    repeated = [row for row in ids for _ in range(n)]
    return [{"draw": i, "prompt_ids": row, "input_ids": row if infill else []} for i, row in enumerate(repeated)]


def _prompt_ids(tokenizer: Tokenizer, text: str, *, holes: bool) -> list[int]:
    """Ids of a typed prompt. With `holes` the mask token's own text is a hole; otherwise text never makes a special token."""
    pieces = text.split(tokenizer.mask_token) if holes else [text]
    first, *rest = tokenizers.encode(tokenizer, pieces)
    return [*first, *itertools.chain.from_iterable([tokenizer.mask_token_id, *piece] for piece in rest)]
