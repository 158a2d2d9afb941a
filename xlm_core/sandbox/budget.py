"""What a program may use. One count bounds its time and its memory alike: whatever is made costs steps by its size."""

from __future__ import annotations

from typing import Any

BITS = 4096
"""Of the largest whole number: 1,233 digits."""
DEPTH = 50
"""Of lists in lists."""
CALLS = 200
"""Of functions in functions."""


class Spent(Exception):
    """The program wants more than it may use."""


class Refused(Exception):
    """The program wants something that the language does not have."""


class Budget:
    """Steps that are left. Running out of them is the same on every machine, unlike running out of time."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def spend(self, steps: int = 1) -> None:
        self.left -= steps
        if self.left < 0:
            raise Spent("too many steps")

    def bits(self, count: int) -> None:
        """Ask before a whole number of so many bits is made."""
        if count > BITS:
            raise Spent(f"a number of more than {BITS} bits")
        self.spend(max(0, count) // 256)

    def measure(self, value: Any, depth: int = 0) -> None:
        """Walk through a value before Python does (to compare, hash or print it): parts that are shared count every time.

        Raises:
            Refused: there is something in it that is no data.
        """
        kind = type(value)
        if kind in (int, float, bool, type(None), range):
            self.spend()
        elif kind is str:
            self.spend(1 + len(value) // 8)
        elif kind in (list, tuple, set, dict):
            if depth > DEPTH:
                raise Spent("lists in lists, too deep")
            self.spend(1 + len(value))
            for part in value:
                self.measure(part, depth + 1)
            for part in value.values() if kind is dict else ():
                self.measure(part, depth + 1)
        else:
            raise Refused(f"what a {kind.__name__.lower()} is used for here")
