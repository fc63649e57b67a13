"""How callers talk to the log: HTTP endpoints, settings and commands."""
