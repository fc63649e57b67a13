"""CachedLookup that an operator runs: the selftest, and the comparison with what a client has sent."""
