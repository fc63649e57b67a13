"""Other people's tables: described, inspected and mended over the database's own connection.

foreign_tables.sql says how. One transaction creates its functions in `pg_temp`, calls them, and leaves none behind: it
is rolled back, or drops them before it commits. A pooler may hand the connection on afterwards.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from conversation.doctor.foreign import ForeignTable
from logging_store.errors import StoreUnavailable, TurnlogError
from logging_store.postgres.sqlstate import without_values

_SQL = Path(__file__).with_suffix(".sql")
_CONNECT_S = 10


class ForeignTables:
    """The tables of a database, within one transaction."""

    def __init__(self, connection: psycopg.Connection, search_path: str) -> None:
        self._connection = connection
        self._search_path = search_path

    def describe(self, schema: str, table: str) -> dict[str, Any] | None:
        described: dict[str, Any] | None = self._call("describe", schema, table)
        return described

    def inspect(self, table: ForeignTable) -> dict[str, Any]:
        found: dict[str, Any] = self._call("inspect", Jsonb(table.request()))
        return found

    def mend(self, table: ForeignTable, fills: Mapping[str, str]) -> dict[str, Any]:
        """Mend the table; new sessions get `fills`, a text for each column. Nothing is kept before `keep`."""
        report: dict[str, Any] = self._call("mend", Jsonb(table.request()), Jsonb(fills), self._search_path)
        return report

    def keep(self, table: ForeignTable) -> None:
        """Commit what was mended, and move sequences past the numbers that were made up."""
        self._call("advance", Jsonb(table.request()))
        self._connection.execute("discard temp")
        self._connection.commit()

    def _call(self, function: str, *arguments: Any) -> Any:
        statement = f"select pg_temp.{function}({', '.join(['%s'] * len(arguments))})"
        row = self._connection.execute(statement.encode(), arguments).fetchone()
        return row and row[0]


@contextmanager
def foreign_tables(address: str) -> Iterator[ForeignTables]:
    """Yield the tables of the database at a libpq address; what isn't kept is rolled back.

    Raises `StoreUnavailable` if the connection ends, another `TurnlogError` for everything else.
    """
    with _driver_errors(), _connect(address) as connection:
        # whatever is the default: a lock may be waited for, and the rows that count are those after it
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        connection.read_only = False
        [(search_path,)] = connection.execute("show search_path")
        try:
            connection.execute(_SQL.read_bytes())
        except psycopg.errors.InsufficientPrivilege as error:
            raise TurnlogError(
                f"this role may not make the temporary functions that it takes ({error.diag.message_primary}): "
                f"grant temporary on database {connection.info.dbname} to {connection.info.user}"
            ) from error
        yield ForeignTables(connection, search_path)
        connection.rollback()


def _connect(address: str) -> psycopg.Connection:
    try:
        return psycopg.connect(
            address,
            connect_timeout=_CONNECT_S,
            application_name="turnlog",
            prepare_threshold=None,  # poolers in transaction mode don't keep prepared statements
        )
    except psycopg.OperationalError as error:
        raise TurnlogError(f"the database can't be reached: {_in_one_line(error)}") from error


def _in_one_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())


@contextmanager
def _driver_errors() -> Iterator[None]:
    """Turn psycopg's errors into ours, without the values that they quote: those may be what people said."""
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise StoreUnavailable(f"the connection to PostgreSQL ended: {_in_one_line(error)}") from error
        message = error.diag.message_primary or str(error)
        raise TurnlogError(without_values(message) if error.sqlstate.startswith("22") else message) from error
