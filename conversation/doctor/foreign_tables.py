"""Describes, inspects and repairs other applications' tables, over a connection of its own.

One transaction creates the functions of foreign_tables.sql in `pg_temp` and calls them. It leaves none behind, since a
pooler may reuse the connection: it is rolled back, or drops them before it commits.
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

    def repair(self, table: ForeignTable, fills: Mapping[str, str]) -> dict[str, Any]:
        """Repair the table; new sessions get the texts of `fills` in its columns. `commit` makes it permanent."""
        report: dict[str, Any] = self._call("repair", Jsonb(table.request()), Jsonb(fills), self._search_path)
        return report

    def commit(self, table: ForeignTable) -> None:
        """Commit the repairs, and advance sequences past the new numbers."""
        self._call("advance", Jsonb(table.request()))
        self._connection.execute("discard temp")
        self._connection.commit()

    def _call(self, function: str, *arguments: Any) -> Any:
        statement = f"select pg_temp.{function}({', '.join(['%s'] * len(arguments))})"
        row = self._connection.execute(statement.encode(), arguments).fetchone()
        return row and row[0]


@contextmanager
def foreign_tables(address: str) -> Iterator[ForeignTables]:
    """Yield the tables of the database at a libpq address; roll back unless `commit` was called.

    Raises `StoreUnavailable` if the connection ends, another `TurnlogError` for everything else.
    """
    with _driver_errors(), _connect(address) as connection:
        # whatever the default: statements have to see the rows that were committed while they waited for locks
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        connection.read_only = False
        [(search_path,)] = connection.execute("show search_path")
        try:
            connection.execute(_SQL.read_bytes())
        except psycopg.errors.InsufficientPrivilege as error:
            raise TurnlogError(
                f"this role may not create temporary functions ({error.diag.message_primary}): "
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
    """Convert psycopg's errors to ours, without the values that they quote, which may be content of conversations."""
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise StoreUnavailable(f"the connection to PostgreSQL ended: {_in_one_line(error)}") from error
        message = error.diag.message_primary or str(error)
        raise TurnlogError(without_values(message) if error.sqlstate.startswith("22") else message) from error
