"""What the user sees when something is wrong: one sentence, one hint, one exit code."""

from __future__ import annotations

from typing import ClassVar


class XlmError(Exception):
    """A failure that is explained, not traced back.

    Args:
        message: one sentence that says what is wrong.
        hint: what to do next; may be empty.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(XlmError):
    """A wrong option, config key, value or combination (exit 2)."""

    exit_code = 2


class DataError(ConfigError):
    """Data that cannot be found or read, or that do not fit what the config says of them (exit 2)."""


class FamilyError(XlmError):
    """A family that is missing, broken, incompatible or claimed twice (exit 3)."""

    exit_code = 3


class CheckpointError(XlmError):
    """A run folder or checkpoint that cannot be found, read or matched to the model (exit 2)."""

    exit_code = 2


class Interrupted(XlmError):
    """The run was stopped by a signal, after it had written a checkpoint (exit 130)."""

    exit_code = 130
