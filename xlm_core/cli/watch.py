"""Replaying the event log of a decode in the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

from xlm_core.trace import Event, Trace, replay

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from xlm_core.run import Sample

Spell: TypeAlias = Callable[[int], str]

PACE = 0.12
"""Seconds between frames."""
LONGEST = 12.0
"""Seconds that a replay takes at most."""


@dataclass(frozen=True)
class Frame:
    """The canvas after one network evaluation."""

    step: int
    """-1 before the first."""
    events: Sequence[Event]
    canvas: Sequence[int]
    changed: frozenset[int]
    """Positions of this canvas that the step wrote."""


def frames(trace: Trace) -> Iterator[Frame]:
    """The canvases of a trace, one for each step that changed it, beginning with the start canvas."""
    yield Frame(-1, (), list(trace.start), frozenset())
    changes = ((event, canvas) for event, canvas in replay(trace) if event is not None)
    for step, group in groupby(changes, key=lambda change: change[0].step):
        written = list(group)
        changed: set[int] = set()
        for event, _ in written:
            if event.operation == "insert":
                changed = {position + (position >= event.position) for position in changed}
            changed.add(event.position)
        yield Frame(step, [event for event, _ in written], written[-1][1], frozenset(changed))


def watch(sample: Sample, spell: Spell, console: Console | None = None) -> None:
    """Replay a sample: in place on a terminal, one line a step elsewhere."""
    from rich.console import Console

    console = console or Console(highlight=False, soft_wrap=True)
    if sample.trace is None:
        console.print(sample.text, markup=False)
    elif console.is_terminal:
        _play(sample, list(frames(sample.trace)), spell, console)
    else:
        if sample.prompt:
            console.print(f"prompt: {sample.prompt}", markup=False)
        for frame in frames(sample.trace):
            console.print(line(frame, spell), markup=False)


def line(frame: Frame, spell: Spell) -> str:
    """A frame as plain text; what the step wrote stands in brackets."""
    words = [f"[{spell(token)}]" if i in frame.changed else spell(token) for i, token in enumerate(frame.canvas)]
    label = (
        "start" if frame.step < 0 else f"step {frame.step} {'+'.join(dict.fromkeys(event.operation for event in frame.events))}"
    )
    return f"{label}: {' '.join(words)}"


def _play(sample: Sample, shown: Sequence[Frame], spell: Spell, console: Console) -> None:
    from rich.live import Live

    pause = min(PACE, LONGEST / len(shown))
    with Live(console=console, auto_refresh=False, transient=False) as live:
        for frame in shown:
            live.update(_picture(sample, frame, spell), refresh=True)
            time.sleep(pause)


def _picture(sample: Sample, frame: Frame, spell: Spell) -> Text:
    from rich.text import Text

    picture = Text()
    if sample.prompt:
        picture.append(f"{sample.prompt}\n", style="dim")
    for i, token in enumerate(frame.canvas):
        picture.append(spell(token), style="bold black on green" if i in frame.changed else "")
        picture.append(" ")
    operations = ", ".join(f"{event.operation} {spell(event.token)!r} at {event.position}" for event in frame.events[:3])
    more = f" and {len(frame.events) - 3} more" if len(frame.events) > 3 else ""
    picture.append(f"\n{frame.step + 1} of {sample.nfe} evaluations  {operations}{more}", style="cyan")
    return picture
