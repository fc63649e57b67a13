"""The records that callers send: their fields, their values, their ids."""
