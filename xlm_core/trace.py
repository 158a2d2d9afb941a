"""The event log of a decode: one schema for every family, and its replay.

Positions are indices into the canvas as it is when the event happens; an insertion shifts what is right of it. Replaying is a
pure function of the trace, so a stored trace shows exactly what the decoder did.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    from torch import Tensor

Operation = Literal["append", "insert", "unmask", "remask"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)


class Event(NamedTuple):
    """One change of one row's canvas."""

    step: int
    """Which network evaluation of the row caused it, from 0."""
    position: int
    operation: Operation
    token: int
    """The token written. For `remask` it is the mask id."""
    confidence: float
    """Probability that the decoder gave to this choice; NaN where it has none."""
    time: float
    """Diffusion time before the event, in [0, 1]; NaN for families without one."""


@dataclass(frozen=True)
class Trace:
    """The events of one row, from a start canvas (empty, or the visible tokens and masks) to its prediction."""

    start: Sequence[int] = ()
    events: Sequence[Event] = field(default_factory=list)


def apply(canvas: Sequence[int], event: Event) -> list[int]:
    """The canvas after one event.

    Raises:
        ValueError: the event does not fit the canvas, or has an unknown operation.
    """
    if event.operation not in OPERATIONS:
        raise ValueError(f"there is no operation {event.operation!r}; they are {', '.join(OPERATIONS)}")
    last = len(canvas) - (event.operation in ("unmask", "remask"))
    if not 0 <= event.position <= last or (event.operation == "append" and event.position != len(canvas)):
        raise ValueError(f"{event.operation} at {event.position} does not fit a canvas of {len(canvas)} tokens")
    changed = list(canvas)
    if event.operation in ("append", "insert"):
        changed.insert(event.position, event.token)
    else:
        changed[event.position] = event.token
    return changed


def replay(trace: Trace) -> Iterator[tuple[Event | None, list[int]]]:
    """Every canvas in order, beginning with `(None, start)`."""
    canvas = list(trace.start)
    yield None, canvas
    for event in trace.events:
        canvas = apply(canvas, event)
        yield event, canvas


def final(trace: Trace) -> list[int]:
    """The last canvas."""
    *_, (_, canvas) = replay(trace)
    return canvas


class Recorder:
    """Collects events of a batch on the device that decodes, and hands them over once, at the end."""

    def __init__(self) -> None:
        self._events: list[tuple[Operation, tuple[Tensor, ...]]] = []

    def record(
        self,
        operation: Operation,
        active: Tensor,
        *,
        step: Tensor | int,
        position: Tensor,
        token: Tensor,
        confidence: Tensor | float = math.nan,
        time: Tensor | float = math.nan,
    ) -> None:
        """Add an event wherever `active` is true. Nothing is read back from the device here.

        Args:
            operation: what happened.
            active: (B,) or (B, L) bool. Events of one row are kept in the order of the columns.
            step, position, token, confidence, time: fields of `Event`, each broadcastable to the shape of `active`.
        """
        import torch

        columns = [torch.as_tensor(value, device=active.device) for value in (step, position, token, confidence, time)]
        self._events.append((operation, (active.clone(), *(c.detach().expand(active.shape).clone() for c in columns))))

    def traces(self, starts: Sequence[Sequence[int]]) -> list[Trace]:
        """One trace a row.

        Args:
            starts: each row's canvas before the first event.
        """
        rows: list[list[Event]] = [[] for _ in starts]
        for operation, (active, *columns) in self._events:
            owners = active.nonzero()[:, 0].tolist()
            fields = (column[active].tolist() for column in columns)
            for row, step, position, token, confidence, time in zip(owners, *fields, strict=True):
                rows[row].append(Event(step, position, operation, token, confidence, time))
        return [Trace(tuple(start), events) for start, events in zip(starts, rows, strict=True)]
