"""Word problems of grade school, answered by programs (TinyGSM: Liu et al., 2023, arXiv 2312.09241)."""

from xlm_core.tasks.gsm.problems import preprocess, preprocess_answers

__all__ = ["preprocess", "preprocess_answers"]
