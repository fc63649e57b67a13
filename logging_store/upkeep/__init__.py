"""Background and scheduled work: the search index and retention."""
