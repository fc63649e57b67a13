"""Calls the functions over PostgreSQL's own protocol, through a connection pool.

A call is one statement in autocommit mode: one round trip and one transaction. The pool opens at the first call of each
process, since gunicorn forks.
"""

import os
import re
import select
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jiter
import psycopg
from psycopg.types.json import Jsonb, set_json_loads
from psycopg_pool import ConnectionPool, PoolTimeout
from pydantic_core import to_json

from logging_store.errors import StoreUnavailable
from logging_store.postgres.deadline import Watchdog
from logging_store.postgres.function_store import FunctionStore
from logging_store.postgres.sqlstate import classify

_FIRST_WAIT_S = 0.25  # how long to wait for a free connection before connecting directly, to learn the error
_TOO_MANY_CONNECTIONS = re.compile(
    r"too many (clients|connections)|remaining connection slots"
)  # libpq returns no code
_CONNECT_S = 5  # a healthy server answers in milliseconds, a pooler under load in a second or two


class PostgresStore(FunctionStore):
    """A store in a PostgreSQL database.

    `conninfo`: a libpq connection string or URL. `pool_size`: the most connections of this process.
    """

    def __init__(self, conninfo: str, *, pool_size: int = 8, deadline_s: float = 10) -> None:
        super().__init__(deadline_s)
        self._conninfo = conninfo
        self._pool_size = pool_size
        self._opening = threading.Lock()
        self._opened: tuple[int, ConnectionPool, Watchdog] | None = None

    def _call(self, function: str, value: Mapping[str, Any], deadline: float) -> Any:
        pool, watchdog = self._resources()
        with _driver_errors(), self._live_connection(pool, deadline) as connection:
            with watchdog.limit(connection.fileno(), deadline - time.monotonic()):
                row = connection.execute(
                    f"select turnlog.{function}(%s)".encode(),
                    [Jsonb(value, dumps=to_json)],
                ).fetchone()
            return row[0] if row else None

    def close(self) -> None:
        with self._opening:
            opened, self._opened = self._opened, None
        if opened and opened[0] == os.getpid():
            opened[1].close()
            opened[2].close()

    @contextmanager
    def _live_connection(self, pool: ConnectionPool, deadline: float) -> Iterator[psycopg.Connection]:
        """Borrow a connection that the server hasn't closed. Raises `PoolTimeout` at the time `deadline`."""
        # the pool's own check sleeps for seconds after each closed one, and a restart of the server closes all of them
        while _was_closed_by_server(connection := self._acquire(pool, deadline)):
            connection.close()
            pool.putconn(connection)
        try:
            yield connection
        finally:
            pool.putconn(connection)

    def _acquire(self, pool: ConnectionPool, deadline: float) -> psycopg.Connection:
        if (left := deadline - time.monotonic()) <= _FIRST_WAIT_S:
            return pool.getconn(left)
        try:
            return pool.getconn(_FIRST_WAIT_S)
        except PoolTimeout:
            # the pool only reports a timeout; connecting directly raises the server's error at once
            self._connect_once(deadline)
            return pool.getconn(deadline - time.monotonic())

    def _connect_once(self, deadline: float) -> None:
        """Raise the server's error if it refuses connections, unless it only has none left at the moment."""
        seconds = max(1, min(_CONNECT_S, int(deadline - time.monotonic())))
        try:
            psycopg.connect(self._conninfo, connect_timeout=seconds, application_name="turnlog").close()
        except psycopg.OperationalError as error:
            if not _TOO_MANY_CONNECTIONS.search(str(error)):
                raise

    def _resources(self) -> tuple[ConnectionPool, Watchdog]:
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            with self._opening:
                opened = self._opened
                if opened is None or opened[0] != os.getpid():
                    opened = self._opened = (os.getpid(), self._open_pool(), Watchdog())
        return opened[1], opened[2]

    def _open_pool(self) -> ConnectionPool:
        return ConnectionPool(
            self._conninfo,
            min_size=1,
            max_size=self._pool_size,
            timeout=self.deadline_s,
            reconnect_timeout=self.deadline_s,  # the next call tries again; the pool's own pauses grow to minutes
            configure=self._configure,
            open=True,
            name="turnlog",
            kwargs={
                "autocommit": True,
                "connect_timeout": _CONNECT_S,
                "application_name": "turnlog",
                # poolers in transaction mode don't support prepared statements, from which a call gains little
                "prepare_threshold": None,
            },
        )

    def _configure(self, connection: psycopg.Connection) -> None:
        set_json_loads(_from_json, connection)
        timeout_ms = int(self.deadline_s * 1000)
        connection.execute(f"set statement_timeout = {timeout_ms}".encode())


def _from_json(text: str | bytes) -> Any:
    return jiter.from_json(text if isinstance(text, bytes) else text.encode())


def _was_closed_by_server(connection: psycopg.Connection) -> bool:
    """Return whether an idle connection was closed, without a round trip: then it has become readable."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


@contextmanager
def _driver_errors() -> Iterator[None]:
    """Convert psycopg's errors."""
    try:
        yield
    except PoolTimeout as error:
        raise StoreUnavailable("no connection to PostgreSQL became free in time") from error
    except psycopg.Error as error:
        if error.sqlstate is None:
            # the connection failed; if that was during the commit, the outcome is unknown
            raise StoreUnavailable(f"the connection to PostgreSQL failed: {error}") from error
        diag = error.diag
        raise classify(
            error.sqlstate,
            diag.message_primary or str(error),
            detail=diag.message_detail,
            constraint=diag.constraint_name,
            column=diag.column_name,
        ) from error
