"""Work that ranks share: what goes wrong on one of them ends all, instead of leaving the others to wait for it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

from xlm_core.errors import XlmError

Made = TypeVar("Made")


def place() -> tuple[int, int]:
    """This rank, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def together(work: Callable[[], Made]) -> list[Made]:
    """What `work` gives on each rank, on all ranks. Every rank has to call this.

    Raises:
        XlmError: raised by `work` on some rank: the same on all. Anything else is raised as it is where it happened, and as an
            XlmError that names it on ranks where nothing went wrong.
    """
    rank, world = place()
    if world == 1:
        return [work()]
    mine, wrong = b"", None
    try:
        mine = pickle.dumps(work())  # here, where it is told when it fails
    except Exception as error:
        wrong = error
    outcomes: list[Any] = [None] * world
    dist.all_gather_object(outcomes, (mine, None if wrong is None else _told(wrong, rank)))
    if wrong is not None:
        raise wrong
    for _, told in outcomes:
        if told is not None:
            raise told
    return [pickle.loads(made) for made, _ in outcomes]


def first(work: Callable[[], Made]) -> Made:
    """What `work` gives on the first rank, on all ranks. Every rank has to call this; it fails as `together` does."""
    made: list[Any] = together(lambda: None if place()[0] else work())
    found: Made = made[0]
    return found


def _told(error: Exception, rank: int) -> XlmError:
    if isinstance(error, XlmError):
        return error
    what = f"{type(error).__name__}: {error}".partition("\n")[0]
    return XlmError(f"rank {rank} stopped with {what}", "Its own output has the traceback.")
