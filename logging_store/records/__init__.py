"""What callers may say: the records, their values, their ids."""
