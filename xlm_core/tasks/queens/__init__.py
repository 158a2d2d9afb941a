"""N queens on an n x n board, some of them given (the task of arXiv 2605.19376)."""

from xlm_core.tasks.queens.boards import generate, preprocess
from xlm_core.tasks.queens.validity import valid

__all__ = ["generate", "preprocess", "valid"]
