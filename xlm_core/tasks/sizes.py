"""Sets with boards of several sizes, as those of arXiv 2605.19376 are published: the column `config` says which a row has, and
smaller boards may be filled up with zeros."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlm_core.errors import ConfigError, DataError


def known(config: str, sizes: Mapping[str, int]) -> int:
    """How large the boards of a name are.

    Raises:
        ConfigError: there are none of this name.
    """
    if config not in sizes:
        raise ConfigError(f"there are no boards {config!r}", f"data.arguments.config is one of {', '.join(sizes)}.")
    return sizes[config]


def of_size(rows: Mapping[str, Sequence[Any]], column: str, config: str, width: int, numbers: Set[int]) -> NDArray[np.int64]:
    """(R, width): a column of the rows of one size, without zeros.

    Args:
        rows: `column`, lists of numbers, and `config`.
        config: other rows are left out.
        width: of each list, zeros not counted.
        numbers: that may be in it.

    Raises:
        DataError: another one is, or there are more or fewer.
    """
    pairs = zip(rows[column], rows["config"], strict=True)
    found = [[number for number in row if number != 0] for row, size in pairs if size == config]
    wrong = next((row for row in found if len(row) != width or not set(row) <= numbers), None)
    if wrong is not None:
        hint = f"It is {width} numbers, each one of {', '.join(map(str, sorted(numbers)))}."
        raise DataError(f"{wrong} is no {column} of {config}", hint)
    return np.array(found, np.int64).reshape(-1, width)
