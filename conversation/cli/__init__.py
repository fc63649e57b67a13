"""The command `turnlog`: one module for each of its commands, found by the table in `main`.

A module imports what its command works with when the command runs, so `turnlog --help` costs next to nothing.
"""
