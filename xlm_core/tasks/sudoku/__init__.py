"""Sudoku puzzles with one solution, and the order in which a solver fills them."""

from xlm_core.tasks.sudoku.puzzles import generate
from xlm_core.tasks.sudoku.rows import preprocess, preprocess_order
from xlm_core.tasks.sudoku.validity import valid, valid_order

__all__ = ["generate", "preprocess", "preprocess_order", "valid", "valid_order"]
