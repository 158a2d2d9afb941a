"""Flexible-length masked diffusion as an XLM family."""
