from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from xlm_core.cli.watch import frames, line, watch
from xlm_core.trace import Event, Trace, final

MASK = 9


def event(step, position, operation, token):
    return Event(step, position, operation, token, 0.5, 0.5)


@st.composite
def traces(draw):
    """Decodes that insert and unmask at random places, several events a step."""
    start = draw(st.lists(st.sampled_from([1, 2, MASK]), max_size=4))
    canvas, step, events = list(start), 0, []
    for _ in range(draw(st.integers(0, 8))):
        step += draw(st.integers(0, 2))
        operation = draw(st.sampled_from(["insert", "append", "unmask"] if canvas else ["insert", "append"]))
        place = draw(st.integers(0, len(canvas) - (operation == "unmask")))
        place = len(canvas) if operation == "append" else place
        token = 100 + len(events)
        if operation == "unmask":
            canvas[place] = token
        else:
            canvas.insert(place, token)
        events.append(event(step, place, operation, token))
    return Trace(start, events)


@given(traces())
def test_a_frame_a_step_that_marks_what_the_step_wrote(trace):
    found = list(frames(trace))
    assert found[0].canvas == list(trace.start)
    assert [frame.step for frame in found[1:]] == sorted({e.step for e in trace.events})
    assert found[-1].canvas == final(trace)
    for frame in found[1:]:
        written = {e.token for e in trace.events if e.step == frame.step}
        marked = {frame.canvas[i] for i in frame.changed}
        # Tokens are unique here, so what is marked is exactly what was written and not written over.
        assert marked == written & set(frame.canvas)


def test_plain_lines():
    trace = Trace([1, 2], [event(0, 1, "insert", 3), event(0, 0, "insert", 4), event(2, 1, "remask", 9)])
    lines = [line(frame, str) for frame in frames(trace)]
    assert lines == ["start: 1 2", "step 0 insert: [4] 1 [3] 2", "step 2 remask: 4 [9] 3 2"]


@pytest.fixture
def sample():
    trace = Trace([], [event(0, 0, "append", 1), event(1, 1, "append", 2)])
    return SimpleNamespace(prompt="go", text="x y", nfe=3, trace=trace)


def replayed(sample, **options):
    out = io.StringIO()
    watch(sample, lambda token: " xy"[token], Console(file=out, width=80, highlight=False, **options))
    return out.getvalue()


def test_without_a_terminal_there_is_a_line_a_step(sample):
    assert replayed(sample).splitlines() == ["prompt: go", "start: ", "step 0 append: [x]", "step 1 append: x [y]"]


def test_on_a_terminal_the_new_token_is_highlighted(sample, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    shown = replayed(sample, force_terminal=True, color_system="standard")
    assert "\x1b[1;30;42my" in shown
    assert "2 of 3 evaluations" in shown


def test_without_an_event_log_the_text_is_shown(sample):
    sample.trace = None
    assert replayed(sample) == "x y\n"
