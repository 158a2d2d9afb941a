"""Masked language model as an XLM family."""
