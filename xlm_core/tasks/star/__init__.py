"""Path finding in star graphs (Bachmann & Nagarajan, 2024, arXiv 2403.06963), and the asymmetric ones of arXiv 2505.05755."""

from xlm_core.tasks.star.graphs import generate, preprocess

__all__ = ["generate", "preprocess"]
