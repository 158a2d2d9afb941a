"""Autoregressive (left-to-right) language model as an XLM family."""
