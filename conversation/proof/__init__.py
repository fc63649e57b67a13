"""Checks for operators: the self-test, and the comparison of the log with what a client sent."""
