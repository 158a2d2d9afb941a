"""Dream as an XLM family."""
