"""Graphs of two sizes in one set, with the columns that are published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from xlm_core.errors import DataError
from xlm_core.tasks import boards, sizes
from xlm_core.tasks.coloring.graphs import APART, COLOURS, JOINED, SIZE
from xlm_core.tasks.coloring.validity import proper

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer

VERTICES = {"8-vertex": 8, "10-vertex": 10}


def preprocess(rows: Mapping[str, Sequence[Any]], tokenizer: Tokenizer, *, config: str) -> dict[str, list[list[int]]]:
    """Layout infill, as for generated graphs: all colours are to be filled.

    Args:
        rows: `input` and `target`, numbers as `generate` gives them and zeros, which are left out; `config`.
        tokenizer: has the numbers 0 to 5.
        config: 8-vertex or 10-vertex: graphs of another size are left out.

    Raises:
        ConfigError: there is no such size.
        DataError: a row is no graph of its size, or its target no proper colouring of it.
    """
    vertices = sizes.known(config, VERTICES)
    edges = sizes.of_size(rows, "input", config, vertices * (vertices - 1) // 2, {APART, JOINED})
    colours = sizes.of_size(rows, "target", config, vertices, set(COLOURS))
    right = proper(torch.from_numpy(edges), torch.from_numpy(colours)).numpy()
    if not right.all():
        hint = "Edges are those of vertices 0 and 1, 0 and 2 and so on, then 1 and 2: 1 for none, 2 for one."
        raise DataError(f"{colours[~right][0].tolist()} does not colour the graph {edges[~right][0].tolist()}", hint)
    given = np.concatenate([np.ones_like(edges), np.zeros_like(colours)], axis=1).astype(bool)
    return boards.infilling(np.concatenate([edges, colours], axis=1), given, tokenizer, SIZE)
