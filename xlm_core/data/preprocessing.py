"""From raw rows to rows of ids: the preprocessing function, and what happens to rows that are too long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xlm_core.data import sources
from xlm_core.data.dotted import resolve
from xlm_core.data.ragged import Ragged
from xlm_core.errors import ConfigError, DataError, XlmError

if TYPE_CHECKING:
    from xlm_core.config import DataConfig
    from xlm_core.protocols import Tokenizer

COLUMNS = {"lm": ("input_ids",), "seq2seq": ("prompt_ids", "input_ids"), "infill": ("prompt_ids", "input_ids")}


class Processed(NamedTuple):
    """Rows of ids, ready to be stored or trained on."""

    columns: dict[str, Ragged]
    counts: Counter[str]
    """rows_in, rows_out, tokens, and how many rows were `blank`, `truncated` or `divided`."""


def arguments_of(config: DataConfig, split: str) -> dict[str, Any]:
    """Those of the preprocessing function: the split's own come before the data set's."""
    return {**config.arguments, **config.splits[split].arguments}


@dataclass(frozen=True)
class Preprocessing:
    """How the raw rows of a split become rows of ids. It can be sent to another process."""

    config: DataConfig
    tokenizer: Tokenizer
    split: str

    def __post_init__(self) -> None:
        if self.config.layout not in COLUMNS:
            raise ConfigError(f"there is no layout {self.config.layout!r}", f"data.layout is one of {', '.join(COLUMNS)}.")
        if self.config.length < 1:
            raise ConfigError(f"data.length is {self.config.length}", "It is at least 1.")
        if self.config.packing and self.config.layout != "lm":
            raise ConfigError(f"rows of the layout {self.config.layout} cannot be packed", "Set data.packing=false.")

    @cached_property
    def _skip_blank(self) -> bool:
        return sources.file_format(self.config, self.split) == "text"

    @property
    def columns(self) -> tuple[str, ...]:
        return COLUMNS[self.config.layout]

    def __call__(self, rows: Mapping[str, Sequence[Any]], first: int) -> Processed:
        """Process one batch.

        Args:
            rows: columns of raw rows.
            first: number of the first of them in the split, for messages.

        Raises:
            DataError: the preprocessing function fails or returns something else than ids, or a row does not fit.
        """
        counts = Counter(rows_in=len(next(iter(rows.values()))))
        if self._skip_blank:
            rows, counts["blank"] = _without_blank(rows)
        columns = self._fit(self._checked(self._preprocessed(rows, first)), first, counts)
        counts["rows_out"] = len(columns["input_ids"])
        counts["tokens"] = sum(len(column.values) for column in columns.values())
        return Processed(columns, counts)

    def _preprocessed(self, rows: Mapping[str, Sequence[Any]], first: int) -> Mapping[str, Sequence[Sequence[int]]]:
        name = self.config.preprocess
        if name is None:
            return {column: rows[column] for column in self.columns if column in rows}
        function: Callable[..., Any] = resolve(name)
        try:
            made = function(rows, self.tokenizer, **arguments_of(self.config, self.split))
        except XlmError:
            raise
        except Exception as error:
            message = f"{name} failed on a row from {first} on of the split {self.split}: {type(error).__name__}: {error}"
            raise DataError(message, f"The columns of the rows are {', '.join(rows)}.") from error
        return made  # type: ignore[no-any-return]

    def _checked(self, made: Mapping[str, Sequence[Sequence[int]]]) -> dict[str, Ragged]:
        origin = self.config.preprocess or f"the source of {self.config.name}"
        if not isinstance(made, Mapping) or set(made) != set(self.columns):
            found = ", ".join(made) if isinstance(made, Mapping) else type(made).__name__
            hint = f"The layout {self.config.layout} needs {' and '.join(self.columns)}, and nothing else."
            raise DataError(f"{origin} gives {found or 'no columns of ids'}", hint)
        try:
            columns = {name: Ragged.of(made[name]) for name in self.columns}
        except (TypeError, ValueError) as error:
            raise DataError(f"{origin} gives rows that are not lists of ids", "Check its last line.") from error
        if len({len(column) for column in columns.values()}) > 1:
            raise DataError(f"{origin} gives columns with different numbers of rows", "Each column has one list a row.")
        if self.config.layout == "infill" and (columns["input_ids"].lengths != columns["prompt_ids"].lengths).any():
            raise DataError(f"{origin} gives prompt_ids and input_ids of different lengths", "Put a mask at every hole.")
        known = len(self.tokenizer)
        for column in columns.values():
            if len(column.values) and not 0 <= column.values.min() <= column.values.max() < known:
                raise DataError(f"{origin} gives ids that the tokenizer does not have", f"It has 0 to {known - 1}.")
        return columns

    def _option(self, column: str) -> str:
        """The config key of the column's greatest length."""
        return "prompt_length" if column == "prompt_ids" and self.config.layout == "seq2seq" else "length"

    def _limit(self, column: str) -> int:
        return int(getattr(self.config, self._option(column)))

    def _fit(self, columns: dict[str, Ragged], first: int, counts: Counter[str]) -> dict[str, Ragged]:
        """Apply `length`, `prompt_length` and `truncate`. A prompt keeps its end, anything else its start."""
        if self.config.packing:
            return columns
        long = [column.lengths > self._limit(name) for name, column in columns.items()]
        rows = np.flatnonzero(np.logical_or.reduce(long))
        if not len(rows):
            return columns
        if self.config.truncate:
            counts["truncated"] = len(rows)
            last = {"prompt_ids"} if self.config.layout == "seq2seq" else set()
            return {name: column.cut(self._limit(name), from_end=name in last) for name, column in columns.items()}
        if self.config.layout == "lm":
            counts["divided"] = len(rows)
            return {name: column.pieces(self.config.length) for name, column in columns.items()}
        raise self._too_long({name: int(column.lengths[rows[0]]) for name, column in columns.items()}, first + int(rows[0]))

    def _too_long(self, lengths: Mapping[str, int], row: int) -> DataError:
        name = next(name for name, length in lengths.items() if length > self._limit(name))
        option = self._option(name)
        message = f"row {row} of the split {self.split} has {lengths[name]} tokens in {name}, more than data.{option}"
        return DataError(message, f"Raise data.{option} from {self._limit(name)}, or set data.truncate=true to cut such rows.")


def _without_blank(rows: Mapping[str, Sequence[Any]]) -> tuple[Mapping[str, Sequence[Any]], int]:
    texts = [text for text in rows["text"] if text.strip()]
    return {"text": texts}, len(rows["text"]) - len(texts)
