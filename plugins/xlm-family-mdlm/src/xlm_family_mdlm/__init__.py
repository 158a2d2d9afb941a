"""Masked diffusion language model as an XLM family."""
