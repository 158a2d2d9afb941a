"""A story of one to four operations, the program that follows it, and the number that comes out.

The number is computed here, in cents: no program is ever run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

PEOPLE = ("Ada", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Hugo", "Ines", "Jonas", "Kira", "Leo")
THINGS = ("apples", "books", "buttons", "cards", "coins", "cookies", "marbles", "pencils", "shells", "stamps")


@dataclass
class Story:
    """What has been told so far, with the generator that everything in it is drawn from."""

    rng: np.random.Generator
    person: str
    other: str
    things: str
    amount: int
    """Things that the person has."""
    sentences: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    """The program's statements."""

    @classmethod
    def begin(cls, rng: np.random.Generator) -> Story:
        person, other = rng.choice(len(PEOPLE), 2, replace=False)
        story = cls(rng, PEOPLE[person], PEOPLE[other], THINGS[rng.integers(len(THINGS))], int(rng.integers(2, 100)))
        story.sentences.append(f"{story.person} has {story.amount} {story.things}.")
        story.lines.append(f"{story.things} = {story.amount}")
        return story

    def number(self, low: int, high: int) -> int:
        """Uniform on low .. high."""
        return int(self.rng.integers(low, high, endpoint=True))

    def tell(self, sentence: str, name: str, value: str) -> None:
        """Add a sentence, and the statement that gives the variable `name` its value."""
        self.sentences.append(sentence)
        self.lines.append(f"{name} = {value}")


def finds(story: Story) -> None:
    more = story.number(2, 50)
    story.tell(f"{story.person} finds {more} more.", story.things, f"{story.things} + {more}")
    story.amount += more


def gives(story: Story) -> None:
    if story.amount < 2:
        return finds(story)
    fewer = story.number(1, story.amount - 1)
    story.tell(f"{story.person} gives {fewer} of them to {story.other}.", story.things, f"{story.things} - {fewer}")
    story.amount -= fewer
    return None


def buys(story: Story) -> None:
    boxes, each = story.number(2, 9), story.number(2, 12)
    what = f"{story.person} buys {boxes} boxes with {each} {story.things} in each."
    story.tell(what, story.things, f"{story.things} + {boxes} * {each}")
    story.amount += boxes * each


def total(story: Story) -> int:
    story.tell(f"How many {story.things} does {story.person} have now?", "result", story.things)
    return 100 * story.amount


def times(story: Story) -> int:
    factor = story.number(2, 9)
    what = f"{story.other} has {factor} times as many. How many {story.things} does {story.other} have?"
    story.tell(what, "result", f"{story.things} * {factor}")
    return 100 * story.amount * factor


def shares(story: Story) -> int:
    friends = [n for n in range(2, 10) if story.amount % n == 0]
    if not friends:
        return times(story)
    count = friends[story.rng.integers(len(friends))]
    what = f"{story.person} shares the {story.things} equally among {count} friends. How many does each friend get?"
    story.tell(what, "result", f"{story.things} // {count}")
    return 100 * story.amount // count


def sells(story: Story) -> int:
    cents = story.number(5, 999)
    what = f"{story.person} sells all of the {story.things} for ${cents / 100:.2f} each. How many dollars is that?"
    story.tell(what, "result", f"round({story.things} * {cents / 100:.2f}, 2)")
    return story.amount * cents


Change: TypeAlias = Callable[[Story], None]
Question: TypeAlias = Callable[[Story], int]
"""Gives the answer, in hundredths."""
CHANGES: tuple[Change, ...] = (finds, gives, buys)
QUESTIONS: tuple[Question, ...] = (total, times, shares, sells)
