"""Left-to-right language model as an XLM family: the autoregressive baseline."""
