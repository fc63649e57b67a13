"""One request, one transaction, on a connection from a small pool.

Below psycopg's cursors, on its libpq wrapper: three round trips a call (begin with its settings, the call,
commit), and the JSON passes through as bytes. Waiting for Postgres releases the interpreter's lock.
"""

import contextlib
import functools
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from psycopg import pq, sql
from psycopg.conninfo import conninfo_to_dict

from tests.postgrest.answers import PostgresErrorFields
from tests.postgrest.routines import Statement

JSON_OID = 114
CONNECT_TIMEOUT_S = 5
CANCEL_TIMEOUT_S = 5.0
SUCCESSFUL = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK})

Settings = tuple[tuple[str, str], ...]


class PostgresError(Exception):
    """Postgres refused; the transaction is rolled back."""

    def __init__(self, fields: PostgresErrorFields) -> None:
        super().__init__(fields.sqlstate, fields.message)
        self.fields = fields


class ConnectionLostError(Exception):
    """The connection broke during a transaction, so whether it committed is unknown."""


class StaleConnectionError(Exception):
    """A connection from the pool turned out to be dead before anything was done on it."""


class UnreachableError(Exception):
    """No connection could be made."""


class PoolExhaustedError(Exception):
    """All connections stayed busy for as long as a request waits."""


class Session:
    """One connection and the statements that are prepared on it."""

    def __init__(self, dsn: str, settings: Mapping[str, str]) -> None:
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        try:
            self.connection: psycopg.Connection[Any] = psycopg.connect(
                dsn,
                autocommit=True,
                options=options,
                client_encoding="utf8",
                application_name=conninfo_to_dict(dsn).get("application_name", "postgrest stand-in"),
                connect_timeout=CONNECT_TIMEOUT_S,
            )
        except psycopg.OperationalError as failure:
            raise UnreachableError from failure
        self._libpq = self.connection.pgconn
        self._prepared: set[bytes] = set()

    def transact(self, begin: bytes, call: Statement, body: bytes) -> list[bytes | None]:
        """Return the one row of the call, after its commit."""
        try:
            self._check(self._libpq.exec_(begin))
        except ConnectionLostError as failure:
            raise StaleConnectionError from failure
        if call.name not in self._prepared:
            self._check(self._libpq.prepare(call.name, call.text, [JSON_OID] if call.has_body else None))
            self._prepared.add(call.name)
        result = self._libpq.exec_prepared(call.name, [body] if call.has_body else None)
        self._check(result)
        row = [result.get_value(0, column) for column in range(result.nfields)]
        self._check(self._libpq.exec_(b"commit"))
        return row

    def close(self) -> None:
        self.connection.close()

    def _check(self, result: pq.abc.PGresult) -> None:
        if result.status in SUCCESSFUL:
            return
        if self._libpq.status == pq.ConnStatus.BAD:
            raise ConnectionLostError
        message, details, hint, sqlstate = (
            value.decode() if (value := result.error_field(part)) is not None else None
            for part in (
                pq.DiagnosticField.MESSAGE_PRIMARY,
                pq.DiagnosticField.MESSAGE_DETAIL,
                pq.DiagnosticField.MESSAGE_HINT,
                pq.DiagnosticField.SQLSTATE,
            )
        )
        self._libpq.exec_(b"rollback")
        raise PostgresError(PostgresErrorFields(sqlstate or "XX000", message or "", details, hint))


class Database:
    """A pool of sessions, made when needed."""

    def __init__(self, dsn: str, settings: Mapping[str, str], size: int, acquire_timeout_s: float) -> None:
        self._dsn = dsn
        self._settings = settings
        self._acquire_timeout_s = acquire_timeout_s
        self._free_places = threading.Semaphore(size)
        self._lock = threading.Lock()
        self._idle: list[Session] = []
        self._busy: set[Session] = set()

    def transact(self, begin: bytes, call: Statement, body: bytes) -> list[bytes | None]:
        """Run one transaction. Raises `StaleConnectionError` once for each connection that died while it was idle."""
        with self._session() as session:
            return session.transact(begin, call, body)

    def connect(self) -> contextlib.closing[psycopg.Connection[Any]]:
        """Open a connection beside the pool."""
        return contextlib.closing(Session(self._dsn, self._settings).connection)

    def cancel_busy(self) -> None:
        """Ask Postgres to end what is running, so that nothing of it commits."""
        with self._lock:
            busy = list(self._busy)
        for session in busy:
            with contextlib.suppress(psycopg.Error):
                session.connection.cancel_safe(timeout=CANCEL_TIMEOUT_S)

    def discard_idle(self) -> None:
        """Close the sessions that wait for a transaction."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()

    def close(self) -> None:
        """Close all sessions; no transaction may be running any more."""
        self.discard_idle()

    @contextlib.contextmanager
    def _session(self) -> Iterator[Session]:
        if not self._free_places.acquire(timeout=self._acquire_timeout_s):
            raise PoolExhaustedError
        try:
            with self._lock:
                session = self._idle.pop() if self._idle else None
            if session is None:
                session = Session(self._dsn, self._settings)
            with self._lock:
                self._busy.add(session)
            try:
                yield session
            finally:
                self._take_back(session)
        finally:
            self._free_places.release()

    def _take_back(self, session: Session) -> None:
        with self._lock:
            self._busy.discard(session)
            usable = session.connection.pgconn.transaction_status == pq.TransactionStatus.IDLE
            if usable:
                self._idle.append(session)
        if not usable:
            session.close()


@functools.lru_cache(maxsize=1024)
def begin(settings: Settings, isolation: str | None, *, may_write: bool) -> bytes:
    """Return SQL that opens a transaction with these settings, which end with it."""
    calls = sql.SQL(", ").join(
        sql.SQL("set_config({}, {}, true)").format(sql.Literal(name), sql.Literal(value)) for name, value in settings
    )
    level = f" isolation level {isolation}" if isolation else ""
    access = " read write" if may_write else " read only"
    return f"begin{level}{access}; select ".encode() + calls.as_bytes()
