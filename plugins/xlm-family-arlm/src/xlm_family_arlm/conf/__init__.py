"""Configs of the family."""
