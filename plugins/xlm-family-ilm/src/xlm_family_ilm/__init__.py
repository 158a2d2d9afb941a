"""Insertion language model as an XLM family."""
