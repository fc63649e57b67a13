"""How the log is kept: records, their identity, and the stores that hold them."""
