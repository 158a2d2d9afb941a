"""A model family for XLM."""
