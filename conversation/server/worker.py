"""gunicorn's threaded worker, hardened against slow clients: one that stalls or never reads delays nobody else.

A thread waits until the rest of a request has arrived, and until its response is read. So there are many more threads
than requests served at once, every client has to keep up a minimum rate, and the event loop, which serves all
connections, never waits for a single client.

Terminate TLS at a proxy: with gunicorn's own TLS, clients are not held to the minimum rate.
"""

import json
import select
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from errno import ECONNRESET
from functools import partial
from typing import Any, cast

from gunicorn import util
from gunicorn.http.errors import (
    ChunkMissingTerminator,
    ExpectationFailed,
    InvalidChunkExtension,
    InvalidChunkSize,
    InvalidHeader,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.workers.gthread import TConn, ThreadWorker

from conversation import refusals
from conversation.api.requests import receive
from conversation.refusals.codes import CODES

CLIENT_TIMEOUT_S = 10.0  # for a request to arrive, for a free slot, and for its response to be read
MIN_BYTES_PER_S = 32 * 1024  # extends a client's timeout, up to CLIENT_TIMEOUT_S: 4 MB may take two minutes
THREADS_PER_REQUEST = 8  # at 16 requests 128 threads, most of which never start

_TLS_HANDSHAKE = b"\x16\x03"

_MAX_WAIT_S = 1.0
_ACCEPT_DELAY_S = 50e-6  # for each connection that a worker has: long enough for a less busy worker to accept first
_MAX_ACCEPT_DELAY_S = 1.25e-3


_TOO_BUSY = "No request slot became free in time, and nothing was done; send the same call again"


def _problem(code: str, detail: str, request_id: str, **more: Any) -> bytes:
    kind = CODES[code]
    body = {"type": kind.path, "title": kind.title, "status": kind.status, "code": code, "detail": detail}
    return json.dumps(body | {"request_id": request_id} | more).encode()


#: Status and title for requests that can't be parsed; 400 for the rest.
_STATUSES: dict[type[ParseException], tuple[int, str]] = {
    LimitRequestLine: (414, "URI Too Long"),
    LimitRequestHeaders: (431, "Request Header Fields Too Large"),
    ExpectationFailed: (417, "Expectation Failed"),
    UnsupportedTransferCoding: (501, "Not Implemented"),
}


class ClientTooSlow(ConnectionResetError):  # noqa: N818 - the name says it
    """A client fell below the minimum rate; gunicorn treats it as disconnected."""

    def __init__(self) -> None:
        super().__init__(ECONNRESET, "The client is too slow")


class PacedSocket(socket.socket):
    """A client's connection that waits only while the client keeps up the minimum rate, else raises `ClientTooSlow`.

    With a timeout set it is an ordinary socket.
    """

    too_slow = False
    spoke_tls = False
    _deadline = 0.0
    _has_received = False

    def restart_timeout(self) -> None:
        """Give the client the full time again, for its next request or for reading the response."""
        self._deadline = time.monotonic() + CLIENT_TIMEOUT_S

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        if self.gettimeout() is not None:
            return super().recv(size, flags)
        while True:
            with suppress(BlockingIOError):
                data = super().recv(size, flags | socket.MSG_DONTWAIT)
                self._extend_deadline(len(data))
                return b"" if self._is_tls(data) else data
            self._wait_for(select.POLLIN)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        rest = memoryview(data).cast("B")
        while rest:
            with suppress(BlockingIOError):
                sent = super().send(rest, flags | socket.MSG_DONTWAIT)
                self._extend_deadline(sent)
                rest = rest[sent:]
                continue
            self._wait_for(select.POLLOUT)

    def send(self, data: Any, flags: int = 0, /) -> int:
        self.sendall(data, flags)
        return len(data)

    def _is_tls(self, data: bytes) -> bool:
        """Return whether the connection begins with a TLS handshake, which would wait for ours and look slow."""
        if not self._has_received:
            self._has_received = True
            self.spoke_tls = data.startswith(_TLS_HANDSHAKE)
        return self.spoke_tls

    def _extend_deadline(self, size: int) -> None:
        # capped, or a client could save up time by a fast start and then stall
        self._deadline = min(self._deadline + size / MIN_BYTES_PER_S, time.monotonic() + CLIENT_TIMEOUT_S)

    def _wait_for(self, ready: int) -> None:
        poll = select.poll()
        poll.register(self, ready)
        left = self._deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            self.too_slow = True
            raise ClientTooSlow


class ConcurrencyLimit:
    """A WSGI application that serves at most `at_once` requests at a time, each after its body has arrived."""

    def __init__(self, application: Callable[..., Iterable[bytes]], at_once: int) -> None:
        self._application = application
        self._slots = threading.BoundedSemaphore(at_once)
        self._lines = refusals.RefusalLog()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            environ["wsgi.input"] = receive(environ["wsgi.input"], environ.get("CONTENT_LENGTH"))
        except (ChunkMissingTerminator, InvalidChunkExtension, InvalidChunkSize) as error:
            raise InvalidHeader(str(error)) from error  # answered with 400, and the connection closed
        if not self._slots.acquire(timeout=CLIENT_TIMEOUT_S):
            return self._refuse(environ, start_response)
        try:
            answer = self._application(environ, start_response)
        finally:
            self._slots.release()
        _restart_timeout(environ["gunicorn.socket"])
        return answer

    def _refuse(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request_id = refusals.accepted_id(environ.get("HTTP_X_REQUEST_ID"))
        body = _problem("too-busy", _TOO_BUSY, request_id, retry_after=1)
        headers = [("Content-Type", "application/problem+json"), ("Content-Length", str(len(body)))]
        start_response("503 Service Unavailable", [*headers, ("Retry-After", "1"), (refusals.REQUEST_ID, request_id)])
        self._lines.write("(any route)", environ.get("REQUEST_METHOD", ""), 503, "too-busy", request_id)
        return [body]


class Worker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """`threads` is the number of requests served at once; further threads wait for clients."""

    def get_thread_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=self.cfg.threads * THREADS_PER_REQUEST)

    def load_wsgi(self) -> None:
        super().load_wsgi()
        self.wsgi = ConcurrencyLimit(self.wsgi, self.cfg.threads)  # type: ignore[has-type]

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait for events, but briefly, since a shutdown closes idle connections only in between."""
        super().wait_for_and_dispatch_events(min(timeout, _MAX_WAIT_S))

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection, later the more this worker has, so that a less busy one comes first."""
        time.sleep(min(self.nr_conns * _ACCEPT_DELAY_S, _MAX_ACCEPT_DELAY_S))
        super().accept(listener)

    def enqueue_req(self, conn: TConn) -> None:
        """Hand a connection to a thread; a new one only after it has sent something."""
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
            return
        old = conn.sock
        conn.sock = PacedSocket(old.family, old.type, old.proto, fileno=old.detach())
        conn.sock.setblocking(False)
        conn.set_timeout()
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def handle(self, conn: TConn) -> object:
        """Serve a connection's requests, in a thread. Returns whether to keep the connection."""
        keep_alive = self._serve(conn)
        # a pipelined request is in the parser's buffer already, where the event loop wouldn't see it
        while keep_alive is True and conn.parser.unreader.buf.getbuffer().nbytes:
            keep_alive = self._serve(conn)
        if not keep_alive:
            self._close(conn)
        return keep_alive

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer a request that can't be served, without logging or quoting it: a broken header may hold a key."""
        request_id = refusals.accepted_id(_sent_id(req))
        if isinstance(exc, ParseException):
            self.log.warning("malformed request %s from %s: %s", request_id, _name(addr), type(exc).__name__)
            status, title = _STATUSES.get(type(exc), (400, "Bad Request"))
            detail = "This is not a valid HTTP/1.1 request"
            body = _problem("bad-request", detail, request_id, status=status, title=title)
        else:
            self.log.error("unexpected error in request %s", request_id, exc_info=exc)
            status, title = 500, "Internal Server Error"
            body = _problem("internal-error", "Unexpected. Send the same call again", request_id)
        head = f"HTTP/1.1 {status} {title}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
        head += f"{refusals.REQUEST_ID}: {request_id}\r\n"
        with suppress(OSError):  # the client has disconnected
            util.write_nonblock(client, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def _serve(self, conn: TConn) -> object:
        _restart_timeout(conn.sock)
        return cast("object", super().handle(conn))

    def _close(self, conn: TConn) -> None:
        # gunicorn would wait two seconds for each client's close in the event loop, where nobody is served meanwhile
        if not isinstance(conn.sock, PacedSocket):
            return
        if conn.sock.too_slow:
            self.log.info("client %s was too slow for %d s; connection closed", _name(conn.client), CLIENT_TIMEOUT_S)
        if conn.sock.spoke_tls:
            self.log.warning("%s spoke TLS to a port without TLS: use http://, or a proxy", _name(conn.client))
        with suppress(OSError):
            if not conn.sock.too_slow:
                util.close_graceful(conn.sock.dup())
            conn.sock.shutdown(socket.SHUT_RDWR)


def _name(address: Any) -> str:
    return str(address[0]) if address else "a client"  # clients of a Unix socket have no address


def _sent_id(req: Any) -> str | None:
    """Return the id in a request's headers; None if they were not parsed."""
    headers: list[tuple[str, str]] = getattr(req, "headers", None) or []
    return next((value for name, value in headers if name.upper() == refusals.REQUEST_ID.upper()), None)


def _restart_timeout(client: socket.socket) -> None:
    if isinstance(client, PacedSocket):  # not with TLS
        client.restart_timeout()
