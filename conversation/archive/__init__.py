"""How the log is taken in and given out as files: `turnlog import` and `turnlog export`.

A format's reader turns documents into records; an import writes them in batches, past spool and group commit. An
export reads the log page by page. Nothing here holds a file, or a log, in memory.
"""
