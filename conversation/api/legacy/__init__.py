"""Older routes, which existing frontends call."""
