"""Trained runs inside the harnesses of others, each an extra."""
