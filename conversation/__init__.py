"""How callers talk to the log: HTTP endpoints, settings and commands."""

#: Turnlog's version; pyproject.toml reads it here.
VERSION = "0.1.0"
