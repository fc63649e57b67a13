"""Counters of the service, shared by all of its workers."""
