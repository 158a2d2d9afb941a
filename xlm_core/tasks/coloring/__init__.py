"""Colouring graphs with three colours so that no edge joins two of the same (the task of arXiv 2605.19376)."""

from xlm_core.tasks.coloring.graphs import generate, preprocess
from xlm_core.tasks.coloring.validity import valid

__all__ = ["generate", "preprocess", "valid"]
