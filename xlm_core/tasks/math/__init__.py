"""Problems of mathematics competitions (MATH: Hendrycks et al., 2021, arXiv 2103.03874)."""

from xlm_core.tasks.math.problems import preprocess

__all__ = ["preprocess"]
