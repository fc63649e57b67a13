"""Imports files and other databases into the log, and exports the log to files.

A format's reader turns documents into records; the importer writes them in batches, without spool and group commit. An
export reads the log page by page. Neither holds a whole file or log in memory.
"""
