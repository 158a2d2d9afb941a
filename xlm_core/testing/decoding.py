"""Checks of the predictor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from xlm_core import trace
from xlm_core.protocols import Example, Layout, Prediction
from xlm_core.testing.building import Built, tokens

LESSONS, COPIES, RATE = 240, 32, 4e-3
"""Steps in which one text is learnt by heart, rows of each, and the learning rate that they begin with."""
LEARNT = 0.25
"""The share of answers that are to be that text. By chance it is one in hundreds."""
TRIES = 3
"""How many networks may try: now and then one begins where it learns slowly."""


class Lesson(NamedTuple):
    """What is learnt by heart."""

    row: Example
    asked: Example
    answer: list[int]


def predictions_are_answers(built: Built) -> None:
    """Predictions have the shape that `Prediction` says: content tokens, then padding; in infill with every visible token."""
    pad = built.specials.pad
    for layout in built.layouts:
        prompts = built.prompts(layout)
        found = built.lively(layout).decode(prompts)
        for name, value, shape in (("ids", found.ids, (len(prompts), -1)), ("nfe", found.nfe, (len(prompts),))):
            if value.dtype != torch.int64 or len(value.shape) != len(shape) or len(value) != len(prompts):
                raise AssertionError(f"{layout}: {name} is {value.dtype} of shape {tuple(value.shape)}")
        if bool((found.ids[:, 1:].ne(pad) & found.ids[:, :-1].eq(pad)).any()):
            raise AssertionError(f"{layout}: tokens stand behind padding in ids")
        special = {*built.specials.never_generated, built.specials.eos} - {pad}
        for row, example in zip(tokens(found.ids, pad), prompts, strict=True):
            if special & set(row):
                named = built.tokenizer.convert_ids_to_tokens(sorted(special & set(row)))
                raise AssertionError(f"{layout}: ids hold {', '.join(named)}")
            visible = [token for token in example["prompt_ids"] if token != built.specials.mask]
            if layout == "infill" and not _inside(visible, row):
                raise AssertionError(f"{layout}: the visible tokens are not all in ids, in their order")


def decoding_repeats(built: Built) -> None:
    """Answers are a function of weights, batch and seed, whatever torch's global generator says."""
    for layout in built.layouts:
        parts = built.lively(layout)
        found = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            found.append(parts.decode(built.prompts(layout)))
        if fault := _difference(found[0], found[1], built):
            raise AssertionError(f"{layout}: decoding the same batch twice with one seed gives {fault}")


def decoding_ignores_the_batch(built: Built) -> None:
    """A row's answer is the same alone, beside others, and in another place."""
    for layout in built.layouts:
        parts, prompts = built.lively(layout), built.prompts(layout)
        together, turned = parts.decode(prompts), parts.decode(prompts[::-1])
        if fault := _difference(together, Prediction(turned.ids.flip(0), turned.nfe.flip(0)), built):
            raise AssertionError(f"{layout}: rows in another order get {fault}")
        for n, prompt in enumerate(prompts):
            row = Prediction(together.ids[n : n + 1], together.nfe[n : n + 1])
            if fault := _difference(row, parts.decode([prompt]), built):
                raise AssertionError(f"{layout}: a row decoded alone and beside others gets {fault}")


def nfe_counts_evaluations(built: Built) -> None:
    """`nfe` is how often the network was evaluated for a row, and its maximum how often for the batch."""
    for layout in built.layouts:
        parts, prompts = built.lively(layout), built.prompts(layout)
        for rows in (prompts, *([prompt] for prompt in prompts[:2])):
            with evaluations(parts.model, len(built.tokenizer)) as seen:
                nfe = parts.decode(rows).nfe
            if int(nfe.max()) != len(seen):
                raise AssertionError(f"{layout}: nfe is {nfe.tolist()}, and the network was evaluated {len(seen)} times")


def traces_replay(built: Built) -> None:
    """Replaying a row's trace gives its answer; recording it changes nothing."""
    for layout in built.layouts:
        parts, prompts = built.lively(layout), built.prompts(layout)
        found = parts.decode(prompts, trace=True)
        if fault := _difference(found, parts.decode(prompts), built):
            raise AssertionError(f"{layout}: decoding with a trace and without gives {fault}")
        if found.traces is None or len(found.traces) != len(prompts):
            raise AssertionError(f"{layout}: there is not one trace a row")
        rows = zip(found.traces, tokens(found.ids, built.specials.pad), found.nfe.tolist(), strict=True)
        for number, (log, answer, nfe) in enumerate(rows):
            try:
                end = trace.final(log)
            except ValueError as error:
                raise AssertionError(f"{layout}: the trace of row {number} cannot be replayed: {error}") from error
            if end != answer:
                raise AssertionError(f"{layout}: the trace of row {number} ends in {end}, its answer is {answer}")
            if any(not 0 <= event.step < nfe for event in log.events):
                raise AssertionError(f"{layout}: the trace of row {number} has a step outside of its {nfe} evaluations")


def a_text_learnt_is_decoded(built: Built) -> None:
    """A network that has seen one text only writes it, most of the time: what is trained and what is decoded fit together."""
    for layout in built.layouts:
        lesson = _lesson(built, layout)
        for seed in range(TRIES):
            answers = _learnt(built, layout, lesson, seed)
            right = answers.count(lesson.answer)
            if right >= LEARNT * COPIES:
                break
        else:
            answer, other = (" ".join(built.tokenizer.convert_ids_to_tokens(ids)) for ids in (lesson.answer, answers[0]))
            found = f"{right} of {COPIES} rows are decoded as {answer!r}, and the first as {other!r}"
            raise AssertionError(f"{layout}: after {LESSONS} steps on one text {found}")


def _learnt(built: Built, layout: Layout, lesson: Lesson, seed: int) -> list[list[int]]:
    """What a network answers when it has learnt the lesson."""
    parts = built.parts(layout, seed=seed, shaken=False)
    optimizer = torch.optim.AdamW(parts.trained.parameters(), lr=RATE, fused=True)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=LESSONS)
    for step in range(LESSONS):
        parts.step(optimizer, _copies(lesson.row, first=step * COPIES), step)
        decay.step()
    return tokens(parts.decode(_copies(lesson.asked)).ids, built.specials.pad)


def _lesson(built: Built, layout: Layout) -> Lesson:
    """In lm the first token is given: with relative positions alone, a network could not tell where an empty canvas begins."""
    text = built.ids((1, 5, 3))
    if layout == "lm":
        return Lesson({"input_ids": text}, {"input_ids": [], "prompt_ids": text[:1]}, text[1:])
    mask = built.specials.mask
    prompt = built.ids((7, 6)) if layout == "seq2seq" else [mask, text[1], mask]
    row: Example = {"input_ids": text, "prompt_ids": prompt}
    return Lesson(row, row, text)


def _copies(row: Example, first: int = 0) -> list[Example]:
    return [{**row, "draw": first + n} for n in range(COPIES)]


@contextmanager
def evaluations(model: nn.Module, vocabulary: int) -> Iterator[list[None]]:
    """A list that grows by one with each evaluation of a network.

    An evaluation is a call of the model. Where a decoder calls a method of it instead, it is a call of its token embedding: no
    network reads tokens without.
    """
    seen: list[None] = []
    inside: list[None] = []

    def enter(*_: Any) -> None:
        seen.append(None)
        inside.append(None)

    def leave(*_: Any) -> None:
        inside.pop()

    def read(*_: Any) -> None:
        if not inside:
            seen.append(None)

    tables = [m for m in model.modules() if isinstance(m, nn.Embedding) and m.num_embeddings >= vocabulary]
    hooks = [model.register_forward_pre_hook(enter), model.register_forward_hook(leave, always_call=True)]
    hooks += [table.register_forward_pre_hook(read) for table in tables]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _inside(part: Sequence[int], whole: Sequence[int]) -> bool:
    """Whether the tokens stand in `whole` in this order, with others between them or not."""
    rest = iter(whole)
    return all(token in rest for token in part)


def _difference(one: Prediction, other: Prediction, built: Built) -> str:
    """How two predictions of the same rows differ; empty where they do not."""
    pad = built.specials.pad
    for a, b in zip(tokens(one.ids, pad), tokens(other.ids, pad), strict=True):
        if a != b:
            return f"{' '.join(map(str, a))!r} and {' '.join(map(str, b))!r}"
    return "" if torch.equal(one.nfe, other.nfe) else f"{one.nfe.tolist()} and {other.nfe.tolist()} evaluations"
