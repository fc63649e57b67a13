"""The command `turnlog`: one module per command; `main` has the table of them.

A module imports its command's dependencies when the command runs, so that `turnlog --help` is fast.
"""
