"""What is measured on predictions. A metric gets one decoded batch and returns sums per row, so that batching never matters.

A data config names metrics from here, or any importable function of the same signature by its dotted path.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from xlm_core.errors import ConfigError
from xlm_core.protocols import Batch, Prediction, Ratio, Tokenizer

Metric: TypeAlias = Callable[[Prediction, Batch, Tokenizer], dict[str, Ratio]]


def exact_match(prediction: Prediction, batch: Batch, tokenizer: Tokenizer) -> dict[str, Ratio]:
    """Share of rows whose whole answer equals the target: same tokens and same length."""
    ids, target = _aligned(prediction, batch, tokenizer)
    return {"exact_match": _share((ids == target).all(-1))}


def token_accuracy(prediction: Prediction, batch: Batch, tokenizer: Tokenizer) -> dict[str, Ratio]:
    """Share of the target's tokens that the answer has at the same place. Padding is not counted."""
    ids, target = _aligned(prediction, batch, tokenizer)
    real = target != tokenizer.pad_token_id
    return {"token_accuracy": Ratio(((ids == target) & real).sum(-1).double(), real.sum(-1).double())}


def hole_accuracy(prediction: Prediction, batch: Batch, tokenizer: Tokenizer) -> dict[str, Ratio]:
    """infill: share of the holes that got the target's token. What was given is not counted."""
    ids, target = _aligned(prediction, batch, tokenizer)
    if "prompt_ids" not in batch:
        raise ConfigError("a metric looks at the prompt, but the data have none", "Take it out of data.metrics.")
    prompt = batch["prompt_ids"]
    hole = torch.nn.functional.pad(prompt == tokenizer.mask_token_id, (0, ids.shape[1] - prompt.shape[1]))
    return {"hole_accuracy": Ratio(((ids == target) & hole).sum(-1).double(), hole.sum(-1).double())}


def length(prediction: Prediction, batch: Batch, tokenizer: Tokenizer) -> dict[str, Ratio]:
    """Tokens of the answer, and of the target where there is one."""
    found = {"length": prediction.ids}
    if "target_ids" in batch:
        found["target_length"] = batch["target_ids"]
    counts = {name: (ids != tokenizer.pad_token_id).sum(-1).double() for name, ids in found.items()}
    return {name: Ratio(count, torch.ones_like(count)) for name, count in counts.items()}


def nfe(prediction: Prediction, batch: Batch, tokenizer: Tokenizer) -> dict[str, Ratio]:
    """Network evaluations of a row. Always measured."""
    del batch, tokenizer
    return {"nfe": Ratio(prediction.nfe.double(), torch.ones_like(prediction.nfe, dtype=torch.float64))}


def resolve(names: Sequence[str]) -> list[Metric]:
    """The functions behind a config's list.

    Raises:
        ConfigError: a name is neither here nor importable.
    """
    return [nfe, *(_one(name) for name in names)]


def _one(name: str) -> Metric:
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module or __name__), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"data.metrics names {name!r}, which cannot be imported", str(error)) from error
    metric: Metric = found
    return metric


def _aligned(prediction: Prediction, batch: Batch, tokenizer: Tokenizer) -> tuple[Tensor, Tensor]:
    """Both padded to the wider of the two: a short answer is never compared on its own width only."""
    if "target_ids" not in batch:
        raise ConfigError("a metric compares with a target, but the data have none", "Take it out of data.metrics.")
    ids, target = prediction.ids, batch["target_ids"]
    width = max(ids.shape[1], target.shape[1])
    pad_id = tokenizer.pad_token_id
    return tuple(torch.nn.functional.pad(x, (0, width - x.shape[1]), value=pad_id) for x in (ids, target))  # type: ignore[return-value]


def _share(hit: Tensor) -> Ratio:
    return Ratio(hit.double(), torch.ones_like(hit, dtype=torch.float64))
