"""The server: one thread a connection, each request answered as PostgREST would, or as a fault has it.

Nothing runs before `start()`, and nothing is left after `close()`.
"""

import contextlib
import socket
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from tests.postgrest import keys
from tests.postgrest.answers import Answer
from tests.postgrest.database import Database
from tests.postgrest.faults import Disconnect, Faults, Respond, Stall, Trickle, Truncate, When
from tests.postgrest.rpc import Rpc
from tests.postgrest.wire import Request, Wire

DEFAULT_SECRET = "a secret for tests, longer than thirty-two bytes"  # noqa: S105 - it guards nothing
CANCEL_AGAIN_AFTER_S = 0.05

_Sent = Disconnect | Respond | Trickle | Truncate


class PostgrestStandIn:
    """Serve the functions of one schema, as a context manager or between `start()` and `close()`.

    `dsn` logs in as the role that plays `authenticator`. The timeouts are that role's, as Supabase sets them;
    a role that has its own gets those instead. `port` 0 picks a free one. `serialization_retries` bounds how
    often a transaction that ends in 40001 or 40P01 is repeated; None repeats it until `close()`, as PostgREST would.
    While Postgres is away, it is looked for again no sooner than `reload_pause_s` after the last time. A call on a
    connection that Postgres has ended fails, and every call after it, too, until that pause is over: the real one's
    lasts from one second to half a minute.
    `faults` and `latency_s` (added to each request) may be changed at any time.
    """

    def __init__(
        self,
        dsn: str,
        *,
        port: int = 0,
        secret: str = DEFAULT_SECRET,
        opaque_keys: Mapping[str, str] | None = None,
        schema: str = "public",
        statement_timeout: str = "8s",
        lock_timeout: str = "8s",
        pool_size: int = 10,
        pool_timeout_s: float = 10.0,
        serialization_retries: int | None = None,
        reload_pause_s: float = 1.0,
        latency_s: float = 0.0,
    ) -> None:
        self.faults = Faults()
        self.latency_s = latency_s
        self.secret = secret
        self._closing = threading.Event()
        timeouts = {"statement_timeout": statement_timeout, "lock_timeout": lock_timeout}
        self._database = Database(dsn, timeouts, pool_size, pool_timeout_s)
        self._rpc = Rpc(
            keys.Keyring(secret, opaque_keys or {}),
            self._database,
            schema=schema,
            serialization_retries=serialization_retries,
            reload_pause_s=reload_pause_s,
            closing=self._closing,
        )
        self._address = ("127.0.0.1", port)
        self._acceptor: threading.Thread | None = None
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, socket.socket] = {}

    @property
    def url(self) -> str:
        """What `create_client` takes; known once started."""
        host, port = self._address
        return f"http://{host}:{port}"

    def key(self, role: str = "service_role", *, lifetime_s: float = 3600, **claims: Any) -> str:
        return keys.sign(self.secret, role, lifetime_s=lifetime_s, **claims)

    def start(self) -> Self:
        """Begin to serve. Postgres may be away: requests get a 503 until it is there."""
        listener = socket.create_server(self._address, backlog=128)
        self._address = listener.getsockname()
        self.reload()
        self._acceptor = threading.Thread(target=self._accept, args=[listener], name="postgrest-accept")
        self._acceptor.start()
        return self

    def reload(self) -> None:
        """Read the schema again, as PostgREST does on `notify pgrst, 'reload schema'`."""
        self._rpc.reload()

    def close(self) -> None:
        """Stop as a killed process does: requests under way get no answer, and their work rolls back."""
        if self._acceptor is None or self._closing.is_set():
            return
        self._closing.set()
        with contextlib.suppress(OSError):  # accept() waits for a caller, so here is one
            socket.create_connection(self._address).close()
        self._acceptor.join()
        with self._lock:
            connections = dict(self._connections)
        for sock in connections.values():
            with contextlib.suppress(OSError):  # the peer may have closed it first
                sock.shutdown(socket.SHUT_RDWR)
        for thread in connections:
            while thread.is_alive():  # a call that began just after one cancellation is met by the next
                self._database.cancel_busy()
                thread.join(CANCEL_AGAIN_AFTER_S)
        self._database.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                sock, _ = listener.accept()
                if self._closing.is_set():
                    sock.close()
                    return
                thread = threading.Thread(target=self._serve, args=[sock], name="postgrest-connection")
                with self._lock:
                    self._connections[thread] = sock
                thread.start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            with sock:
                wire = Wire(sock)
                while (request := wire.receive()) is not None:
                    if not self._exchange(wire, request) or not request.keep_alive:
                        break
        finally:
            with self._lock:
                del self._connections[threading.current_thread()]

    def _exchange(self, wire: Wire, request: Request) -> bool:
        """Answer one request; False when the connection is to be closed."""
        if self.latency_s:
            self._closing.wait(self.latency_s)
        if fault := self._fault(request, "before"):
            return self._send_faulty(wire, fault, None)
        answer = self._rpc.answer(request)
        if answer.committed and (fault := self._fault(request, "after")):
            return self._send_faulty(wire, fault, answer)
        return not self._closing.is_set() and wire.send(answer)

    def _send_faulty(self, wire: Wire, fault: _Sent, answer: Answer | None) -> bool:
        """Do what a fault does to an answer, or in the place of one; False when the connection is to be closed."""
        match fault:
            case Respond():
                return not self._closing.is_set() and wire.send(fault.answer)
            case Truncate():
                return wire.send_part(answer or fault.instead, fault.keep_bytes)
            case Trickle():
                return wire.send_slowly(answer or fault.instead, lambda: self._closing.wait(fault.pause_s))
            case Disconnect():
                if fault.reset:
                    wire.reset_when_closed()
                return False

    def _fault(self, request: Request, when: When) -> _Sent | None:
        """Take the fault that is due, if any; a stall is over by the time this returns."""
        fault = self.faults.take(request.function, when)
        if fault is None:
            return None
        if isinstance(fault.do, Stall):
            self._closing.wait(fault.do.seconds)
            return None
        return fault.do
