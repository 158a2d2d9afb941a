"""The One Billion Word Benchmark (Chelba et al., 2013, arXiv 1312.3005)."""

from xlm_core.tasks.lm1b.archive import local_files
from xlm_core.tasks.lm1b.detokenizer import detokenize, preprocess

__all__ = ["detokenize", "local_files", "preprocess"]
