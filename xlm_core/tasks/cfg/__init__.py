"""Sentences of a small context-free grammar of English."""

from xlm_core.tasks.cfg.grammar import DEPTH, G1, Grammar, generate
from xlm_core.tasks.cfg.syntax import syntax

__all__ = ["DEPTH", "G1", "Grammar", "generate", "syntax"]
