"""Parses PostgreSQL connection strings with libpq's own parser.

A module of its own, so that the settings don't load the connection pool.
"""

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo


def parse(conninfo: str) -> dict[str, str]:
    """Return the parameters of a connection string: `{"host": "db", "dbname": "turnlog"}`.

    Raises `ValueError` without quoting the string: libpq's message does, with the password.
    """
    try:
        return {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value is not None}
    except psycopg.ProgrammingError:
        raise ValueError("not a connection string of PostgreSQL") from None


def describe(conninfo: str) -> str:
    """Return where a connection string leads, as host:port/database; without its password."""
    parts = parse(conninfo)
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    name = parts.get("dbname") or parts.get("user") or ""
    return f"{host}:{parts.get('port', '5432')}/{name}".rstrip("/")


def without_password(conninfo: str) -> tuple[str, str | None]:
    """Return a connection string without its password, and the password: lists of processes show arguments."""
    parts = parse(conninfo)
    password = parts.pop("password", None)
    return make_conninfo("", **parts), password
