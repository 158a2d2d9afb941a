"""Checks of what collators make, and that nobody changes it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from torch import Tensor

from xlm_core.protocols import Batch, Example, Layout, Stage
from xlm_core.testing.building import LENGTH, Built, Parts, tokens

STAGES: tuple[Stage, ...] = get_args(Stage)


def layouts_collate(built: Built) -> None:
    """Every layout makes batches for every stage, with the shared keys as `Batch` describes them."""
    for layout in built.layouts:
        parts = built.parts(layout)
        for stage in STAGES:
            examples = _examples(built, layout, stage)
            given = copy.deepcopy(examples)
            where = f"{layout}, {stage}: "
            try:
                batch = parts.collate(stage, examples)
            except Exception as error:
                raise AssertionError(f"{where}{type(error).__name__}: {error}") from error
            if examples != given:
                raise AssertionError(f"{where}the collator edits the examples that it is given")
            _check_shared_keys(batch, examples, where)
            if stage == "predict" and "target_ids" in batch:
                answers = [list(example["input_ids"]) for example in examples]
                if tokens(batch["target_ids"], built.specials.pad) != answers:
                    raise AssertionError(f"{where}target_ids are not the true answers without special tokens")


def batches_repeat(built: Built) -> None:
    """A batch is a function of its examples, whatever torch's global generator says."""
    for layout in built.layouts:
        parts = built.parts(layout)
        for stage in STAGES:
            batches = []
            for seed in (1, 2):
                torch.manual_seed(seed)
                batches.append(parts.collate(stage, _examples(built, layout, stage)))
            if changed := differences(*batches):
                raise AssertionError(f"{layout}, {stage}: collating the same rows again changes {', '.join(changed)}")


def batches_stay(built: Built) -> None:
    """Neither the loss nor the predictor edits a batch."""
    for layout in built.layouts:
        parts = built.lively(layout)
        for stage in STAGES:
            batch = parts.collate(stage, _examples(built, layout, stage))
            before = copy.deepcopy(batch)
            if stage == "predict":
                parts.trained.eval()
                parts.predictor.predict(batch, seed=0)
            else:
                parts.trained.train(stage == "train")
                parts.loss(batch, seed=0)
            if changed := differences(before, batch):
                who = "predictor" if stage == "predict" else "loss"
                raise AssertionError(f"{layout}, {stage}: the {who} edits {', '.join(changed)} of its batch in place")


def canvases_agree(built: Built) -> None:
    """Decoding starts from the canvas that training has: the same special tokens, in the same places, and as many columns."""
    for layout in built.layouts:
        parts = built.parts(layout)
        for row in built.rows(layout):
            asked: Example = {**row, "input_ids": []} if layout == "lm" else row
            train, predict = _canvas(parts, "train", row, built), _canvas(parts, "predict", asked, built)
            _check_agreement(train, predict, built, layout, whole=layout == "infill" or len(row["input_ids"]) == LENGTH)


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys under which two batches differ."""
    return [key for key in {**one, **other} if not same(one.get(key), other.get(key))]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return type(one) is type(other) and bool(one == other)


def _examples(built: Built, layout: Layout, stage: Stage) -> list[Example]:
    return built.prompts(layout) if stage == "predict" else built.rows(layout)


def _check_shared_keys(batch: Batch, examples: Sequence[Example], where: str) -> None:
    ids, mask = batch.get("input_ids"), batch.get("attention_mask")
    if not isinstance(ids, Tensor) or ids.dtype != torch.int64 or ids.ndim != 2 or len(ids) != len(examples):
        raise AssertionError(f"{where}input_ids is not a (B, L) int64 tensor")
    if mask is not None and (mask.dtype != torch.bool or mask.shape != ids.shape):
        raise AssertionError(f"{where}attention_mask is not a bool tensor of the shape of input_ids")
    if batch["draw"].dtype != torch.int64 or batch["draw"].tolist() != [example["draw"] for example in examples]:
        raise AssertionError(f"{where}draw is not the (B,) int64 draw of each example")


def _canvas(parts: Parts, stage: Stage, example: Example, built: Built) -> list[int]:
    """What the network reads of one row, without padding."""
    batch = parts.collate(stage, [example])
    ids = batch["input_ids"][0]
    real = batch["attention_mask"][0] if "attention_mask" in batch else ids != built.specials.pad
    return [int(token) for token in ids[real]]


def _check_agreement(train: list[int], predict: list[int], built: Built, layout: Layout, *, whole: bool) -> None:
    """
    Args:
        whole: the row has as many tokens as its canvas can hold.
    """
    s = built.specials
    fixed, hidden = (s.cls, s.bos, s.sep), s.mask in predict
    shown = f"{layout}: a row is trained as {_text(train, built)} and decoded from {_text(predict, built)}"
    places = [[(n, token) for n, token in enumerate(row) if token in fixed] for row in (train, predict)]
    if places[0] != places[1]:
        raise AssertionError(f"{shown}: CLS, BOS or SEP are not in the same columns")
    if hidden and whole and len(train) != len(predict):
        raise AssertionError(f"{shown}: {len(train)} columns and {len(predict)}")
    if layout == "infill" and not hidden:  # the holes are closed, so that what stands behind them has moved
        return
    head = predict[: predict.index(s.mask)] if hidden else predict
    while head and head[-1] == s.eos:
        head = head[:-1]
    begun = train[: len(head)]
    if len(begun) < len(head) or any(seen not in (known, s.mask) for seen, known in zip(begun, head, strict=True)):
        raise AssertionError(f"{shown}: training does not begin with what decoding is given")


def _text(canvas: list[int], built: Built) -> str:
    return f"`{' '.join(built.tokenizer.convert_ids_to_tokens(canvas))}`"
