"""Imports another application's tables of sessions and interactions, from its database or through Supabase's API.

`column_mapping` maps columns to fields by the names in `synonyms` and the `overrides` of `--map`. `postgres_tables` and
`api_tables` read the rows, `to_records` and `message_rows` turn them into records, and `plan` prints the mapping before
anything is written. Nothing here writes to the source, or reads a table that wasn't named.
"""
