"""Word problems and the programs that solve them, in the format of TinyGSM (Liu et al., 2023, arXiv 2312.09241)."""

from xlm_core.tasks.arithmetic.problems import generate, preprocess

__all__ = ["generate", "preprocess"]
