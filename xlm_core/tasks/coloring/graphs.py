"""Random graphs that have a colouring, and one colouring of each.

Every vertex gets one of three colours, then every two vertices of different colours an edge with probability `density`. With 8
vertices there are a hundred proper colourings of a typical graph at density 0.5, and only the six that differ in the names of
the colours of most at density 0.9. Block k of a split is a function of (seed, split, k) and of the law.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xlm_core.errors import ConfigError
from xlm_core.tasks.boards import column, infilling
from xlm_core.tasks.splits import Columns, distinct

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer

APART, JOINED = 1, 2
COLOURS = (3, 4, 5)
SIZE = 6
"""Numbers that are used: 0 is none of a cell."""
BLOCK = 1000
"""Graphs that are drawn at once, from one generator."""


def pairs(vertices: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The two ends of every possible edge: (0, 1), (0, 2), ..., (1, 2), ..."""
    return np.triu_indices(vertices, 1)


def generate(
    split: str,
    *,
    vertices: int,
    density: float,
    given: int = 0,
    train: int = 50_000,
    validation: int = 500,
    test: int = 1_000,
    seed: int = 42,
) -> dict[str, pa.Array]:
    """Graphs of a split, as columns. No two are equal, in whatever splits.

    Args:
        split: train, validation or test.
        vertices: of each graph.
        density: the probability of an edge between vertices of different colours.
        given: most vertices whose colour is given. How many are is uniform on 0 .. given, which ones is random.
        train, validation, test: how many graphs each split has.
        seed: of all splits.

    Returns:
        `input`: for every two vertices 1, or 2 where an edge joins them; `target`: 3, 4 or 5 for every vertex; `given`: which
        colours are; `config`, as "8-vertex".
    """
    if vertices < 2 or not 0 <= density <= 1 or not 0 <= given <= vertices:
        hint = "vertices is at least 2, density in [0, 1], given at most the number of vertices."
        raise ConfigError(f"there are no graphs with vertices={vertices}, density={density}, given={given}", hint)
    sizes = {"train": train, "validation": validation, "test": test}
    rows = distinct(split, sizes, partial(_block, vertices, density, given, seed), _keys)
    columns = {name: column(values) for name, values in rows.items()}
    return {**columns, "config": pa.array([f"{vertices}-vertex"] * len(rows["input"]))}


def preprocess(rows: Mapping[str, Sequence], tokenizer: Tokenizer) -> dict[str, list[list[int]]]:
    """Layout infill: the edges, then the colours, of which those that are not given are to be filled.

    Args:
        rows: `input` and `target`, and `given` where some colours are.
        tokenizer: has the numbers 0 to 5.
    """
    edges, colours = np.array(rows["input"]), np.array(rows["target"])
    given = np.array(rows["given"]) if "given" in rows else np.zeros(colours.shape, bool)
    known = np.concatenate([np.ones(edges.shape, bool), given], axis=1)
    return infilling(np.concatenate([edges, colours], axis=1), known, tokenizer, SIZE)


def _block(vertices: int, density: float, given: int, seed: int, split: int, block: int) -> Columns:
    rng = np.random.default_rng([seed, split, block])
    colour = rng.integers(0, len(COLOURS), (BLOCK, vertices))
    one, other = pairs(vertices)
    edge = (colour[:, one] != colour[:, other]) & (rng.random((BLOCK, len(one))) < density)
    rank = rng.permuted(np.tile(np.arange(vertices), (BLOCK, 1)), axis=1)
    return {
        "input": np.where(edge, JOINED, APART).astype(np.int8),
        "target": np.array(COLOURS, np.int8)[colour],
        "given": rank < rng.integers(0, given, (BLOCK, 1), endpoint=True),
    }


def _keys(rows: Columns) -> list[bytes]:
    return [edges.tobytes() for edges in rows["input"]]
