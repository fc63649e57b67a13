"""Older spellings of the API, which existing frontends call."""
