"""Anyone's own text."""

from xlm_core.tasks.text.documents import preprocess

__all__ = ["preprocess"]
