"""The log's records, their identities, and the stores that write and read them."""
