"""Connection strings of PostgreSQL, read with libpq's own parser."""

import psycopg
from psycopg.conninfo import conninfo_to_dict


def parse(conninfo: str) -> dict[str, str]:
    """Return the parameters that a connection string sets, by libpq's names.

    Raises `ValueError` without quoting the string: libpq would, with the password.
    """
    try:
        return {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value is not None}
    except psycopg.ProgrammingError:
        raise ValueError("not a connection string of PostgreSQL") from None
