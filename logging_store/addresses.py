"""Connection strings of libpq, read and written: what they name, without their passwords."""

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo


def parts_of(conninfo: str) -> dict[str, str]:
    """Return a connection string's parameters. Raises `ValueError`, without quoting it, if libpq can't read it."""
    try:
        return {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value is not None}
    except ProgrammingError:
        raise ValueError("libpq can't read this connection string") from None


def describe(conninfo: str) -> str:
    """Return where a connection string leads, as host:port/database."""
    parts = parts_of(conninfo)
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    name = parts.get("dbname") or parts.get("user") or ""
    return f"{host}:{parts.get('port', '5432')}/{name}".rstrip("/")


def without_password(conninfo: str) -> tuple[str, str | None]:
    """Return a connection string without its password, and the password: arguments are seen in lists of processes."""
    parts = parts_of(conninfo)
    password = parts.pop("password", None)
    return make_conninfo("", **parts), password
