"""gunicorn's threaded worker, made so that clients who are slow, stall or never read only cost themselves.

A request that has begun waits for its rest in a thread, and an answer waits there until it is read. So there are many
more threads to wait in than requests worked on at once, each request and each answer has to keep up a pace, and what
a thread can wait for is never waited for in the loop that serves all connections.

TLS is left to the proxy: over gunicorn's own there is no pace.
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
from conversation.problem_codes import CODES

PATIENCE_S = 10.0  # for a request to arrive, to get its turn, and for its answer to be taken
PACE = 32 * 1024  # bytes that earn one more second, up to PATIENCE_S ahead: 4 MB may take two minutes
WAITING = 8  # threads for each request worked on at once: 128 at 16, mostly never started

_LOOK_S = 1.0
_YIELD_S = 50e-6  # for each connection that a worker has: long enough for another to wake up
_LONGEST_YIELD_S = 1.25e-3


_TOO_BUSY = "Others were served first for too long, and nothing was done; send the same call again"


def _problem(code: str, detail: str, request_id: str, **more: Any) -> bytes:
    kind = CODES[code]
    body = {"type": kind.path, "title": kind.title, "status": kind.status, "code": code, "detail": detail}
    return json.dumps(body | {"request_id": request_id} | more).encode()


#: What isn't HTTP as we take it: status and title.
_UNREADABLE: dict[type[ParseException], tuple[int, str]] = {
    LimitRequestLine: (414, "URI Too Long"),
    LimitRequestHeaders: (431, "Request Header Fields Too Large"),
    ExpectationFailed: (417, "Expectation Failed"),
    UnsupportedTransferCoding: (501, "Not Implemented"),
}


class TooSlow(ConnectionResetError):  # noqa: N818 - states what is
    """A client kept neither the time nor the pace; to gunicorn, it has gone."""

    def __init__(self) -> None:
        super().__init__(ECONNRESET, "The client is too slow")


class PacedSocket(socket.socket):
    """A client's connection. Where it would block, it waits as long as the client keeps up the pace: `TooSlow` after.

    With a timeout set it is an ordinary socket: whoever set one limits the time himself.
    """

    too_slow = False
    _until = 0.0

    def start_the_clock(self) -> None:
        """Give the client its time for what is due now: its request, or reading its answer."""
        self._until = time.monotonic() + PATIENCE_S

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        if self.gettimeout() is not None:
            return super().recv(size, flags)
        while True:
            with suppress(BlockingIOError):
                data = super().recv(size, flags | socket.MSG_DONTWAIT)
                self._earn(len(data))
                return data
            self._wait_until(select.POLLIN)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        rest = memoryview(data).cast("B")
        while rest:
            with suppress(BlockingIOError):
                sent = super().send(rest, flags | socket.MSG_DONTWAIT)
                self._earn(sent)
                rest = rest[sent:]
                continue
            self._wait_until(select.POLLOUT)

    def send(self, data: Any, flags: int = 0, /) -> int:
        self.sendall(data, flags)
        return len(data)

    def _earn(self, size: int) -> None:
        # no further ahead than this, or a client could save up time by haste and then stall
        self._until = min(self._until + size / PACE, time.monotonic() + PATIENCE_S)

    def _wait_until(self, ready: int) -> None:
        poll = select.poll()
        poll.register(self, ready)
        left = self._until - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            self.too_slow = True
            raise TooSlow


class InTurn:
    """A WSGI application, called for so many requests at once, and for each when all of it has arrived."""

    def __init__(self, application: Callable[..., Iterable[bytes]], at_once: int) -> None:
        self._application = application
        self._turns = threading.BoundedSemaphore(at_once)
        self._lines = refusals.Lines()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            environ["wsgi.input"] = receive(environ["wsgi.input"], environ.get("CONTENT_LENGTH"))
        except (ChunkMissingTerminator, InvalidChunkExtension, InvalidChunkSize) as error:
            raise InvalidHeader(str(error)) from error  # answered with 400, and the connection closed
        if not self._turns.acquire(timeout=PATIENCE_S):
            return self._refuse(environ.get("REQUEST_METHOD", ""), start_response)
        try:
            answer = self._application(environ, start_response)
        finally:
            self._turns.release()
        _start_the_clock(environ["gunicorn.socket"])
        return answer

    def _refuse(self, method: str, start_response: Callable[..., Any]) -> Iterable[bytes]:
        request_id = refusals.new_id()
        body = _problem("too-busy", _TOO_BUSY, request_id, retry_after=1)
        headers = [("Content-Type", "application/problem+json"), ("Content-Length", str(len(body)))]
        start_response("503 Service Unavailable", [*headers, ("Retry-After", "1"), (refusals.REQUEST_ID, request_id)])
        self._lines.write("(any route)", method, 503, "too-busy", request_id)
        return [body]


class Worker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """`threads` is the number of requests worked on at once; connections wait in threads beside those."""

    def get_thread_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=self.cfg.threads * WAITING)

    def load_wsgi(self) -> None:
        super().load_wsgi()
        self.wsgi = InTurn(self.wsgi, self.cfg.threads)  # type: ignore[has-type]

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait a while for what connections say; not longer, since a stop lets idle ones go only in between."""
        super().wait_for_and_dispatch_events(min(timeout, _LOOK_S))

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection, later the more there are, so that a worker with fewer comes first."""
        time.sleep(min(self.nr_conns * _YIELD_S, _LONGEST_YIELD_S))
        super().accept(listener)

    def enqueue_req(self, conn: TConn) -> None:
        """Hand a connection to a thread, a new one only when it says something."""
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
        """Serve what the client has sent, in a thread. Returns whether its connection is kept."""
        kept = self._serve(conn)
        # a pipelined request is read already: the loop, which only sees what is not, would wait for it
        while kept is True and conn.parser.unreader.buf.getbuffer().nbytes:
            kept = self._serve(conn)
        if not kept:
            self._part(conn)
        return kept

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:  # noqa: ARG002
        """Answer what can't be served. What it was is neither logged nor sent back: a broken header may be a key."""
        if isinstance(exc, ParseException):
            self.log.warning("refused what %s sent: %s", addr[0] if addr else "a client", type(exc).__name__)
            status, title = _UNREADABLE.get(type(exc), (400, "Bad Request"))
            detail = "This can't be read as a request of HTTP/1.1"
            body = _problem("bad-request", detail, refusals.new_id(), status=status, title=title)
        else:
            self.log.error("unexpected error in a request", exc_info=exc)
            status, title = 500, "Internal Server Error"
            body = _problem("internal-error", "Unexpected. Send the same call again", refusals.new_id())
        head = f"HTTP/1.1 {status} {title}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
        with suppress(OSError):  # it has gone
            util.write_nonblock(client, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def _serve(self, conn: TConn) -> object:
        _start_the_clock(conn.sock)
        return cast("object", super().handle(conn))

    def _part(self, conn: TConn) -> None:
        # gunicorn would wait for the client's own end in the loop, two seconds for each, and nobody be served there
        if not isinstance(conn.sock, PacedSocket):
            return
        if conn.sock.too_slow:
            self.log.info("cut off %s, which was too slow", conn.client)
        with suppress(OSError):
            if not conn.sock.too_slow:
                util.close_graceful(conn.sock.dup())
            conn.sock.shutdown(socket.SHUT_RDWR)


def _start_the_clock(client: socket.socket) -> None:
    if isinstance(client, PacedSocket):  # under TLS it is not
        client.start_the_clock()
