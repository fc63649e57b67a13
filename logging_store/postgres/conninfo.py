"""Parses PostgreSQL connection strings with libpq's own parser.

A module of its own, so that the settings don't load the connection pool.
"""

import psycopg
from psycopg.conninfo import conninfo_to_dict


def parse(conninfo: str) -> dict[str, str]:
    """Return the parameters of a connection string: `{"host": "db", "dbname": "turnlog"}`.

    Raises `ValueError` without quoting the string: libpq's message does, with the password.
    """
    try:
        return {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value is not None}
    except psycopg.ProgrammingError:
        raise ValueError("not a connection string of PostgreSQL") from None
