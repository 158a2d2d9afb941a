"""Replaying events, refusing those that do not fit, and recording them in batches."""

from __future__ import annotations

import math
import random

import pytest
import torch

from xlm_core.trace import OPERATIONS, Event, Recorder, Trace, apply, final, replay


def event(operation, position, token=9):
    return Event(0, position, operation, token, 0.5, math.nan)


@pytest.mark.parametrize(
    "operation, position, expected",
    [
        ("append", 3, [1, 2, 3, 9]),
        ("insert", 0, [9, 1, 2, 3]),
        ("insert", 2, [1, 2, 9, 3]),
        ("insert", 3, [1, 2, 3, 9]),
        ("unmask", 0, [9, 2, 3]),
        ("unmask", 2, [1, 2, 9]),
        ("remask", 1, [1, 9, 3]),
    ],
)
def test_each_operation(operation, position, expected):
    canvas = [1, 2, 3]
    assert apply(canvas, event(operation, position)) == expected
    assert canvas == [1, 2, 3]


@pytest.mark.parametrize(
    "operation, position",
    [("append", 2), ("append", 4), ("insert", -1), ("insert", 4), ("unmask", 3), ("unmask", -1), ("remask", 3), ("remask", -1)],
)
def test_an_event_that_does_not_fit_is_refused(operation, position):
    with pytest.raises(ValueError, match=f"{operation} at {position} does not fit a canvas of 3 tokens"):
        apply([1, 2, 3], event(operation, position))


def test_an_unknown_operation_is_refused():
    with pytest.raises(ValueError, match="no operation 'delete'"):
        apply([1, 2, 3], event("delete", 0))
    assert set(OPERATIONS) == {"append", "insert", "unmask", "remask"}


def test_replay_shows_every_canvas_from_the_start():
    trace = Trace((4, 4), [event("unmask", 1, 7), event("insert", 0, 8), event("append", 3, 6)])
    assert [canvas for _, canvas in replay(trace)] == [[4, 4], [4, 7], [8, 4, 7], [8, 4, 7, 6]]
    assert [change for change, _ in replay(trace)] == [None, *trace.events]
    assert final(trace) == [8, 4, 7, 6]
    assert final(Trace()) == []


def test_recorder_of_one_event_a_row_and_step():
    """Rows that insert at random places, some of them not at every step, against lists that are kept beside it."""
    rng = random.Random(0)
    rows, recorder = 5, Recorder()
    starts = [[100 + row] * (row % 3) for row in range(rows)]
    canvases = [list(start) for start in starts]
    for step in range(20):
        active = [rng.random() < 0.7 for _ in range(rows)]
        position = [rng.randint(0, len(canvas)) for canvas in canvases]
        recorder.record(
            "insert", torch.tensor(active), step=step, position=torch.tensor(position), token=torch.arange(rows) + step
        )
        for row, canvas in enumerate(canvases):
            if active[row]:
                canvas.insert(position[row], row + step)
    traces = recorder.traces(starts)
    assert [final(trace) for trace in traces] == canvases
    assert all(math.isnan(e.confidence) and math.isnan(e.time) for trace in traces for e in trace.events)


def test_recorder_of_many_columns_keeps_their_order_and_values():
    recorder = Recorder()
    active = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    recorder.record(
        "unmask",
        active,
        step=torch.tensor([[4], [5], [6]]),
        position=torch.arange(3),
        token=torch.arange(9).view(3, 3),
        confidence=torch.full((3, 3), 0.25, dtype=torch.float64),
        time=0.5,
    )
    recorder.record("remask", active[:, 0], step=7, position=torch.zeros(3, dtype=torch.int64), token=torch.tensor([2, 2, 2]))
    first, second, third = recorder.traces([[0] * 3] * 3)
    assert first.events[:2] == [Event(4, 0, "unmask", 0, 0.25, 0.5), Event(4, 2, "unmask", 2, 0.25, 0.5)]
    assert first.events[2][:4] == (7, 0, "remask", 2)
    assert second.events == []
    assert [e.token for e in third.events] == [6, 7, 8, 2]
    assert final(third) == [2, 7, 8]


def test_recorder_keeps_what_it_saw_when_the_tensors_change_later():
    recorder, active, token = Recorder(), torch.tensor([True, True]), torch.tensor([1, 2])
    recorder.record("append", active, step=0, position=torch.zeros(2, dtype=torch.int64), token=token)
    active.zero_(), token.zero_()
    assert [final(trace) for trace in recorder.traces([(), ()])] == [[1], [2]]
