"""Star graphs: arms that share one junction, and the question how to get from the start of one arm to its end.

Candidate number i of a split is a function of (seed, difficulty, split, i). Candidates that ask what a graph of an earlier
split asks are passed over; the order of splits is test, validation, train.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xlm_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer

Ints = NDArray[np.int64]
SPLITS = ("test", "validation", "train")
BLOCK = 1000
"""Graphs that are drawn at once, from one generator."""


@dataclass(frozen=True)
class Difficulty:
    """The law of a graph."""

    degree: int
    """Arms."""
    shortest: int
    longest: int
    """Nodes of an arm, uniform on shortest .. longest."""
    plan: int
    """Nodes that follow the junction on every arm, at least; its place is uniform on what that leaves."""
    vocabulary: int
    """Nodes are distinct numbers below it."""


DIFFICULTIES = {
    "easy": Difficulty(degree=3, shortest=5, longest=5, plan=4, vocabulary=20),  # the junction is the start of every arm
    "medium": Difficulty(degree=3, shortest=3, longest=6, plan=2, vocabulary=20),
    "hard": Difficulty(degree=5, shortest=6, longest=12, plan=5, vocabulary=56),
}


@dataclass(frozen=True)
class Graphs:
    """B graphs in rectangles; -1 where there is nothing."""

    edges: Ints
    """(B, E, 2) int64: in shuffled order, each from the start of its arm towards the end."""
    path: Ints
    """(B, longest) int64: the arm that is asked for. The question gives its first and last node."""

    @property
    def lengths(self) -> Ints:
        """(B,) int64: nodes of the path."""
        lengths: Ints = (self.path >= 0).sum(1)
        return lengths

    @property
    def ends(self) -> Ints:
        """(B, 2) int64: source and goal."""
        return np.stack([self.path[:, 0], self.path[np.arange(len(self.path)), self.lengths - 1]], axis=1)

    def keys(self) -> list[bytes]:
        """One a graph, equal for equal questions: sorted edges, source and goal."""
        codes = np.sort(self.edges[..., 0] * 1000 + self.edges[..., 1], axis=1)
        return [row.tobytes() for row in np.concatenate([codes, self.ends], axis=1)]


def draw(law: Difficulty, size: int, rng: np.random.Generator) -> Graphs:
    """Independent graphs of the law."""
    lengths = rng.integers(law.shortest, law.longest, (size, law.degree, 1), endpoint=True)
    junction = rng.integers(0, lengths - law.plan)
    place = np.arange(law.longest)
    on_arm = place < lengths
    fresh = on_arm & (place != junction)
    number = np.where(fresh, fresh.reshape(size, -1).cumsum(1).reshape(fresh.shape), 0)  # 0 is the junction
    names = rng.permuted(np.tile(np.arange(law.vocabulary), (size, 1)), axis=1)
    arms = np.where(on_arm, names[np.arange(size)[:, None, None], number], -1)
    edges = np.stack([arms[..., :-1], arms[..., 1:]], axis=-1).reshape(size, -1, 2)
    missing = edges[..., 1] < 0
    edges[missing] = -1
    order = np.argsort(rng.random(missing.shape) + missing, axis=1)  # missing edges go last
    return Graphs(np.take_along_axis(edges, order[..., None], axis=1), arms[:, 0])


def generate(
    split: str, *, difficulty: str, train: int = 50_000, validation: int = 100, test: int = 5_000, seed: int = 42
) -> dict[str, pa.Array]:
    """Graphs of a split, as columns.

    Args:
        split: train, validation or test.
        difficulty: easy, medium or hard.
        train, validation, test: how many graphs each split has.
        seed: of all splits.

    Returns:
        `edge_list` (pairs of nodes), `source`, `goal`, and `path` (the nodes from source to goal).
    """
    if difficulty not in DIFFICULTIES:
        raise ConfigError(f"there are no {difficulty!r} star graphs", f"difficulty is one of {', '.join(DIFFICULTIES)}.")
    if split not in SPLITS:
        raise DataError(f"star graphs have no split {split!r}", f"They have {', '.join(SPLITS)}.")
    sizes = {"train": train, "validation": validation, "test": test}
    asked: set[bytes] = set()
    for name in SPLITS[: SPLITS.index(split)]:
        asked.update(_distinct(difficulty, name, sizes[name], seed, asked).keys())
    return _columns(_distinct(difficulty, split, sizes[split], seed, asked))


def _distinct(difficulty: str, split: str, size: int, seed: int, asked: set[bytes]) -> Graphs:
    """The first `size` candidates of a split that are not in `asked`."""
    found: list[Graphs] = []
    missing = size
    for block in count():
        rng = np.random.default_rng([seed, list(DIFFICULTIES).index(difficulty), SPLITS.index(split), block])
        graphs = draw(DIFFICULTIES[difficulty], BLOCK, rng)
        new = [row for row, key in enumerate(graphs.keys()) if key not in asked][:missing]
        found.append(Graphs(graphs.edges[new], graphs.path[new]))
        missing -= len(new)
        if not missing:
            break
    return Graphs(np.concatenate([part.edges for part in found]), np.concatenate([part.path for part in found]))


def _columns(graphs: Graphs) -> dict[str, pa.Array]:
    real = graphs.edges[..., 1] >= 0
    nodes = graphs.edges[real].ravel()
    pairs = pa.ListArray.from_arrays(pa.array(np.arange(0, len(nodes) + 1, 2, dtype=np.int32)), pa.array(nodes))
    source, goal = graphs.ends.T
    return {
        "edge_list": _lists(pairs, real.sum(1)),
        "source": pa.array(source),
        "goal": pa.array(goal),
        "path": _lists(pa.array(graphs.path[graphs.path >= 0]), graphs.lengths),
    }


def _lists(values: pa.Array, lengths: Ints) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32()), values)


def preprocess(rows: Mapping[str, Sequence[Any]], tokenizer: Tokenizer) -> dict[str, list[list[int]]]:
    """The prompt lists the edges, then source and goal; the target lists the edges of the path.

    Raises:
        DataError: the tokenizer does not know a node.
    """
    prompts = [
        [*chain.from_iterable(edges), source, goal]
        for edges, source, goal in zip(rows["edge_list"], rows["source"], rows["goal"], strict=True)
    ]
    targets = [list(chain.from_iterable(pairwise(path))) for path in rows["path"]]
    encoder = _number_encoder(tokenizer, 1 + max(map(max, prompts)))
    return {"prompt_ids": encoder(prompts), "input_ids": encoder(targets)}


def _number_encoder(tokenizer: Tokenizer, size: int) -> Callable[[list[list[int]]], list[list[int]]]:
    """Turns lists of numbers below `size` into ids: by looking them up where each number is a word, else as text."""
    from xlm_core.data.tokenizers import encode

    (table,) = encode(tokenizer, [" ".join(map(str, range(size)))])
    if tokenizer.unk_token_id in table:
        hint = "Use tokenizer=numbers_20, or numbers_56 for the hard graphs."
        raise DataError(f"the tokenizer does not know all of the nodes 0 to {size - 1}", hint)
    if len(table) == size:
        return lambda rows: [[table[number] for number in row] for row in rows]
    return lambda rows: encode(tokenizer, [" ".join(map(str, row)) for row in rows])
