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
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import ExitStack, closing, contextmanager
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
_SHORT_CONNECT_S = 2  # the least that libpq takes
_PRECISION_S = 0.25  # of the server's limit on a statement
_LEAST_S = 0.25  # of a statement's time
_LATER_S = 0.25  # how much later than the server's limit the connection is cut: then the server hangs

_CONNECTION: dict[str, Any] = {
    "autocommit": True,
    "connect_timeout": _CONNECT_S,
    "application_name": "turnlog",
    # poolers in transaction mode don't support prepared statements, from which a call gains little
    "prepare_threshold": None,
}


class PostgresStore(FunctionStore):
    """A store in a PostgreSQL database.

    `conninfo`: a libpq connection string or URL. `pool_size`: the most connections of this process.
    """

    def __init__(self, conninfo: str, *, pool_size: int = 8, deadline_s: float = 10) -> None:
        super().__init__(deadline_s, pool_size)
        self._conninfo = conninfo
        self._pool_size = pool_size
        self._opening = threading.Lock()
        self._opened: tuple[int, ConnectionPool, Watchdog] | None = None
        self._connector: tuple[int, ThreadPoolExecutor] | None = None

    def _call(self, function: str, value: Mapping[str, Any], deadline: float) -> Any:
        pool, watchdog = self._resources()
        with _driver_errors(), self._live_connection(pool, deadline) as connection:
            return self._execute(connection, watchdog, function, value, deadline)

    def _call_apart(self, function: str, deadline: float) -> Any:
        pool, watchdog = self._resources()
        with _driver_errors(), ExitStack() as opened:
            try:
                connection = opened.enter_context(closing(self._connect_within(deadline - time.monotonic())))
            except psycopg.OperationalError as error:
                if not _TOO_MANY_CONNECTIONS.search(str(error)):
                    raise
                # the server has none left, and so is there: one of the others has to do
                connection = opened.enter_context(self._live_connection(pool, deadline))
            return self._execute(connection, watchdog, function, {}, max(deadline, time.monotonic() + _LEAST_S))

    def _execute(
        self,
        connection: psycopg.Connection,
        watchdog: Watchdog,
        function: str,
        value: Mapping[str, Any],
        deadline: float,
    ) -> Any:
        seconds = deadline - time.monotonic()
        with watchdog.limit(connection.fileno(), seconds + _LATER_S), ExitStack() as transaction:
            if abs(seconds - self.deadline_s) > _PRECISION_S:
                # the server ends the statement itself, and so says that it is there; for this transaction alone, since
                # a pooler may give the next one another session
                transaction.enter_context(connection.transaction())
                connection.execute(f"set local statement_timeout = {int(max(seconds, _LEAST_S) * 1000)}".encode())
            row = connection.execute(
                f"select turnlog.{function}(%s)".encode(),
                [Jsonb(value, dumps=to_json)],
            ).fetchone()
        return row[0] if row else None

    def close(self) -> None:
        with self._opening:
            opened, self._opened = self._opened, None
            connector, self._connector = self._connector, None
        if opened and opened[0] == os.getpid():
            opened[1].close()
            opened[2].close()
        if connector and connector[0] == os.getpid():
            connector[1].shutdown(wait=False)

    def _connect_within(self, seconds: float) -> psycopg.Connection:
        """Return a new connection. Raises `PoolTimeout` if the server accepts none in time.

        It connects in a thread, since libpq waits for two seconds at least. One connects at a time.
        """
        connector = self._connector
        if connector is None or connector[0] != os.getpid():
            connector = self._connector = (os.getpid(), ThreadPoolExecutor(1, "turnlog-connect"))
        connecting = connector[1].submit(
            psycopg.connect, self._conninfo, **_CONNECTION | {"connect_timeout": _SHORT_CONNECT_S}
        )
        try:
            connection: psycopg.Connection = connecting.result(max(0, seconds))
        except FutureTimeout as error:
            if not connecting.cancel():
                connecting.add_done_callback(_close_late)
            raise PoolTimeout("the server accepts no connection") from error
        set_json_loads(_from_json, connection)
        return connection

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
            kwargs=_CONNECTION,
        )

    def _configure(self, connection: psycopg.Connection) -> None:
        set_json_loads(_from_json, connection)
        connection.execute(f"set statement_timeout = {int(self.deadline_s * 1000)}".encode())


def _from_json(text: str | bytes) -> Any:
    return jiter.from_json(text if isinstance(text, bytes) else text.encode())


def _close_late(connecting: Future[psycopg.Connection]) -> None:
    """Close a connection that nobody waits for any more."""
    if connecting.exception() is None:
        connecting.result().close()


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
