"""Somebody's own tables of sessions and interactions, read from their database or through Supabase's API.

`synonyms` and `mapping` understand the columns, `postgres_tables` and `api_tables` read the rows, `records` and
`messages` make records of them, `plan` prints what was understood before anything is written. Nothing here writes to
the source, or reads a table that wasn't named.
"""
