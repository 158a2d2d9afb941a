"""The methods that values of a program have. What is not listed is not there, and none is had without a call."""

from __future__ import annotations

from typing import Any

from xlm_core.sandbox.budget import Refused
from xlm_core.sandbox.functions import Call, Library


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


STR = """
capitalize count endswith find index isalpha isdigit isnumeric lower lstrip removeprefix removesuffix rfind rstrip split
splitlines startswith strip title upper
"""
PLAIN: dict[type, frozenset[str]] = {
    str: _names(STR),
    list: _names("clear copy count index remove reverse"),
    tuple: _names("count index"),
    dict: _names("clear copy"),
    set: _names("clear copy difference intersection isdisjoint issubset issuperset symmetric_difference union update"),
    int: frozenset(["bit_length"]),
    float: frozenset(["is_integer"]),
}
"""They look at the whole value and their arguments, and make nothing that is larger than these."""
BRIEF: dict[type, frozenset[str]] = {
    list: _names("append insert pop"),
    dict: _names("get pop setdefault"),
    set: _names("add discard pop remove"),
}
"""They look at their arguments alone."""


def method(library: Library, value: Any, name: str, arguments: list[Any], named: dict[str, Any]) -> Any:
    """value.name(*arguments, **named)

    Raises:
        Refused: there is no such method here.
    """
    kind, budget = type(value), library.budget
    if name in OTHER.get(kind, {}):
        return OTHER[kind][name](library, value, *arguments, **named)
    if name not in PLAIN.get(kind, ()) and name not in BRIEF.get(kind, ()):
        raise Refused(f"{kind.__name__}.{name}")
    if name in PLAIN.get(kind, ()):
        budget.measure(value)
    else:
        budget.spend(1 + len(value) // 64)
    if kind is set and name in PLAIN[set]:
        arguments = [library.data(argument) for argument in arguments]
    for argument in (*arguments, *named.values()):
        budget.measure(argument)
    return getattr(kind, name)(value, *arguments, **named)


def _str_join(library: Library, value: str, parts: Any) -> str:
    found = list(library.do.items(parts))
    library.budget.measure(found)
    library.budget.spend(len(value) * len(found) // 8)
    return value.join(found)


def _str_replace(library: Library, value: str, old: Any, new: Any, count: int = -1) -> str:
    library.budget.measure([value, old, new])
    library.budget.spend((len(value) // max(1, len(old)) + 1) * (1 + len(new)) // 8)
    return value.replace(old, new, count)


def _list_extend(library: Library, value: list[Any], parts: Any) -> None:
    value.extend(list(library.do.items(parts)))


def _list_sort(library: Library, value: list[Any], *, key: Any = None, reverse: Any = False) -> None:
    value[:] = library.ordered(value, key, reverse)


def _dict_items(library: Library, value: dict[Any, Any]) -> list[Any]:
    library.budget.spend(len(value))
    return list(value.items())


def _dict_keys(library: Library, value: dict[Any, Any]) -> list[Any]:
    library.budget.spend(len(value))
    return list(value)


def _dict_values(library: Library, value: dict[Any, Any]) -> list[Any]:
    library.budget.spend(len(value))
    return list(value.values())


def _dict_update(library: Library, value: dict[Any, Any], other: Any = (), **named: Any) -> None:
    made = library.builtins()["dict"].function(other, **named)
    library.budget.spend(len(made))
    value.update(made)


OTHER: dict[type, dict[str, Call]] = {
    str: {"join": _str_join, "replace": _str_replace},
    list: {"extend": _list_extend, "sort": _list_sort},
    dict: {"items": _dict_items, "keys": _dict_keys, "update": _dict_update, "values": _dict_values},
}
"""They have a cost of their own, or call the program."""
