"""Checks of the loss, and of training with it."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from fnmatch import fnmatch

import torch
from torch import Tensor

from xlm_core.protocols import Example, Layout, LossOutput
from xlm_core.testing.building import Built, NotApplicable, Parts

STEPS, RATE = 30, 5e-3
FALL = 0.2
"""By how much of itself the loss of a memorised batch is to fall."""


def layouts_train(built: Built) -> None:
    """One step of every layout: the loss is finite and its gradient reaches every parameter that is trained."""
    reached: set[str] = set()
    trainable: set[str] = set()
    for layout in built.layouts:
        parts = built.parts(layout)
        parts.trained.train()
        out = parts.loss(parts.collate("train", built.rows(layout)), seed=0)
        _check_output(out, layout)
        out.loss.backward()
        parameters = {name: p for name, p in parts.trained.named_parameters() if p.requires_grad}
        trainable |= {name.partition(".")[2] for name in parameters}
        reached |= {name.partition(".")[2] for name, p in parameters.items() if p.grad is not None and bool(p.grad.any())}
        if any(p.grad is not None and not bool(p.grad.isfinite().all()) for p in parameters.values()):
            raise AssertionError(f"{layout}: a gradient is NaN or infinite")
    declared = built.declared.unused_parameters
    lacking = sorted(name for name in trainable - reached if not any(fnmatch(name, pattern) for pattern in declared))
    if lacking:
        raise AssertionError(f"no gradient reaches {', '.join(lacking)}: freeze them, or declare them in unused_parameters")


def packed_rows_train(built: Built) -> None:
    """A family that declares `packed` trains on rows of several documents."""
    if not built.family.info.packed:
        raise NotApplicable("the family does not train on packed rows")
    parts = built.parts("lm", packed=True)
    _check_output(parts.measure("train", built.packed()), "packed lm")
    _check_alone(parts, built.packed(), "packed lm")


def loss_falls(built: Built) -> None:
    """The loss of a batch that is seen again and again falls, and stays finite."""
    for layout in built.layouts:
        parts = built.parts(layout, shaken=False)
        optimizer = torch.optim.AdamW(parts.trained.parameters(), lr=RATE, fused=True)
        losses = [parts.step(optimizer, built.rows(layout), step) for step in range(STEPS)]
        if not all(map(math.isfinite, losses)):
            raise AssertionError(f"{layout}: the loss is NaN or infinite in {STEPS} steps on one batch")
        if losses[0] - losses[-1] < FALL * abs(losses[0]):
            raise AssertionError(f"{layout}: {STEPS} steps on one batch take its loss from {losses[0]:.4g} to {losses[-1]:.4g}")


def loss_ignores_padding(built: Built) -> None:
    """Rows have the loss beside longer ones that they have alone, and `weight` says how to put them together."""
    for layout in built.layouts:
        _check_alone(built.parts(layout), built.rows(layout), layout)


def loss_ignores_order(built: Built) -> None:
    """Rows in another order have the same loss."""
    for layout in built.layouts:
        parts, rows = built.parts(layout), built.rows(layout)
        one, other = parts.measure("evaluate", rows), parts.measure("evaluate", rows[::-1])
        if not close(one.loss, other.loss):
            raise AssertionError(f"{layout}: the loss {one.loss:.6g} becomes {other.loss:.6g} when the rows change places")
        for name, ratio in one.terms.items():
            if not close(ratio.total, other.terms[name].total.flip(0)):
                raise AssertionError(f"{layout}: the term {name!r} of a row depends on the row's place in the batch")


def loss_repeats(built: Built) -> None:
    """The loss is a function of weights, batch and seed, whatever torch's global generator says."""
    for layout in built.layouts:
        parts = built.parts(layout)
        found = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            found.append(parts.measure("evaluate", built.rows(layout)).loss)
        if not torch.equal(*found):
            raise AssertionError(f"{layout}: equal seeds give the losses {found[0]:.6g} and {found[1]:.6g}")


def weights_survive(built: Built) -> None:
    """Saved and loaded into a new network, the weights give the same loss and the same answers."""
    for layout in built.layouts:
        saved, loaded = built.lively(layout), built.parts(layout, seed=99, shaken=False)
        loaded.trained.load_state_dict(_through_file(saved.trained.state_dict()))
        rows = built.rows(layout)
        losses = [parts.measure("evaluate", rows).loss for parts in (saved, loaded)]
        if not torch.equal(*losses):
            raise AssertionError(f"{layout}: a saved network has the loss {losses[0]:.6g}, and {losses[1]:.6g} once loaded")
        answers = [parts.decode(built.prompts(layout)).ids for parts in (saved, loaded)]
        if not torch.equal(*answers):
            raise AssertionError(f"{layout}: a network that is saved and loaded gives other answers")


def training_resumes(built: Built) -> None:
    """Training that stops half-way and goes on from what was saved ends with the same weights."""
    for layout in built.layouts:
        whole, first, second = (built.parts(layout, seed=seed, shaken=False) for seed in (0, 0, 1))
        optimizers = [torch.optim.AdamW(parts.trained.parameters(), lr=RATE, fused=True) for parts in (whole, first, second)]
        _train(whole, optimizers[0], built, layout, range(4))
        _train(first, optimizers[1], built, layout, range(2))
        second.trained.load_state_dict(_through_file(first.trained.state_dict()))
        optimizers[2].load_state_dict(_through_file(optimizers[1].state_dict()))
        _train(second, optimizers[2], built, layout, range(2, 4))
        resumed = dict(second.trained.named_parameters())
        lost = [name for name, weight in whole.trained.named_parameters() if not torch.equal(weight, resumed[name])]
        if lost:
            raise AssertionError(f"{layout}: resumed training ends with another {lost[0].partition('.')[2]}")


def close(one: Tensor, other: Tensor) -> bool:
    """Equal but for the rounding of float32."""
    return one.shape == other.shape and torch.allclose(one.double(), other.double(), rtol=1e-4, atol=1e-4)


def _check_output(out: LossOutput, where: str) -> None:
    if out.loss.shape != () or not bool(out.loss.isfinite()):
        raise AssertionError(f"{where}: the loss is {out.loss.tolist()}, not one finite number")
    if out.weight.shape != () or not bool(out.weight > 0):
        raise AssertionError(f"{where}: the weight is {out.weight.tolist()}, not one number above 0")
    for name, ratio in out.terms.items():
        if ratio.total.requires_grad or not bool(ratio.total.isfinite().all()):
            raise AssertionError(f"{where}: the term {name!r} is not detached and finite")


def _check_alone(parts: Parts, rows: Sequence[Example], where: str) -> None:
    """That a batch's loss is the weighted mean of its rows', each of which is as wide alone as it needs to be."""
    whole = parts.measure("evaluate", rows)
    alone = [parts.measure("evaluate", [row]) for row in rows]
    if not close(whole.weight, torch.stack([out.weight for out in alone]).sum()):
        raise AssertionError(f"{where}: the weight of a batch is not the sum of its rows' weights")
    mean = torch.stack([out.loss * out.weight for out in alone]).sum() / whole.weight
    if not close(whole.loss, mean):
        what = f"the loss of a batch is {whole.loss:.6g}, and the weighted mean of its rows alone {mean:.6g}"
        raise AssertionError(f"{where}: {what}: padding or other rows leak into it, or `weight` is wrong")
    for name, ratio in whole.terms.items():
        if not close(ratio.total, torch.cat([out.terms[name].total for out in alone])):
            raise AssertionError(f"{where}: padding or other rows leak into the term {name!r}")


def _train(parts: Parts, optimizer: torch.optim.Optimizer, built: Built, layout: Layout, steps: range) -> None:
    for step in steps:
        parts.step(optimizer, built.rows(layout, first=step * 8), step)


def _through_file(state: object) -> dict[str, object]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    loaded: dict[str, object] = torch.load(buffer, weights_only=True)
    return loaded
