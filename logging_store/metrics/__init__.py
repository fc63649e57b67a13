"""What the service counts, over all of its workers."""
