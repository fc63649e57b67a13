"""gunicorn's threaded worker, hardened against slow clients: one that stalls or never reads delays nobody else.

Requests arrive in the event loop, which serves all connections and never waits for a single client: silence, half a
head and half a small body hold no thread. A thread waits for the rest of a large body, and until a response is read. So
there are many more threads than requests served at once, and every client has to keep up a minimum rate. Reads may
take only a part of threads and request slots, and uploads only a part of threads: the rest is kept for writes.

Terminate TLS at a proxy: with gunicorn's own TLS, clients are not held to the minimum rate.
"""

import errno
import json
import resource
import select
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
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
from gunicorn.http.parser import RequestParser
from gunicorn.workers.gthread import TConn, ThreadWorker
from werkzeug.wsgi import ClosingIterator

from conversation import refusals
from conversation.api.requests import plain_size, receive
from conversation.refusals.codes import CODES
from conversation.server import arrival
from conversation.server.connection_counts import ConnectionCounts
from conversation.server.strict_request import StrictRequest
from conversation.server.succession import LONGEST_S, Succession

RequestParser.mesg_class = StrictRequest

CLIENT_TIMEOUT_S = 10.0  # for a request to arrive, for a free slot, and for its response to be read
MIN_BYTES_PER_S = 32 * 1024  # extends a client's timeout, up to CLIENT_TIMEOUT_S: 16 MB may take nine minutes
THREADS_PER_REQUEST = 8  # at 16 requests 128 threads, most of which never start

#: Bytes of a body after decompression, which takes several times as many while it is parsed and stored.
LARGE = 1024 * 1024
LARGE_AT_ONCE = 2

_READS = frozenset({"GET", "HEAD"})
_NO_READS = frozenset({"/livez", "/readyz", "/metrics"})  # whoever watches the service learns that it lives
_LINGER_S = 2.0  # for a client to close its end, so that it reads the answer before the connection is gone
_KEPT_SHARE = 0.75  # of a worker's connections that may stay open between requests
_FILES = 512  # of a worker beside its clients' connections

_TLS_HANDSHAKE = b"\x16\x03"

_MAX_WAIT_S = 1.0
_LOOK_S = 0.05  # for a successor that is ready
_ACCEPT_DELAY_S = 50e-6  # for each connection that a worker has: long enough for a less busy worker to accept first
_MAX_ACCEPT_DELAY_S = 1.25e-3
_MANY = 200  # connections of a worker, beyond which it accepts without delay
_OUT_OF_FILES_S = 0.01


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
        super().__init__(errno.ECONNRESET, "The client is too slow")


class TooManyUploads(Exception):  # noqa: N818 - as gunicorn names its own
    """More clients send large bodies than may wait in threads."""


class PacedSocket(socket.socket):
    """A client's connection that waits only while the client keeps up the minimum rate, else raises `ClientTooSlow`.

    With a timeout set it is an ordinary socket.
    """

    too_slow = False
    spoke_tls = False
    has_arrived = False  # the whole request was there before a thread was taken
    on_close: Callable[[], None] | None = None
    _ahead = b""  # what the event loop has received
    _wanted = 0  # bytes of the request under way, once its head is there
    _deadline = 0.0
    _has_received = False

    def restart_timeout(self) -> None:
        """Give the client the full time again, for its next request or for reading the response."""
        self._deadline = time.monotonic() + CLIENT_TIMEOUT_S

    @property
    def has_more(self) -> bool:
        """Whether the event loop has received more than was read since."""
        return bool(self._ahead)

    def receive_ahead(self) -> arrival.Arrival:
        """Receive what is there, without waiting, and return whether a thread may serve it."""
        try:
            data = super().recv(arrival.MOST, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return "waits"
        except OSError:
            return "ended"
        if not data and not self._ahead:
            return "ended"
        self._ahead += data
        if data and len(self._ahead) < self._wanted:
            return "waits"  # without another look at the head
        state = self.arrival()
        return state if data or state != "waits" else "served"

    def arrival(self) -> arrival.Arrival:
        """Return how much of the next request was received ahead."""
        state = arrival.of(self._ahead)
        self.has_arrived = state == "whole"
        self._wanted = arrival.wanted(self._ahead) if state == "waits" else 0
        return state

    def put_back(self, data: bytes) -> None:
        """Take back what was received beyond a request."""
        self._ahead = data + self._ahead

    def close(self) -> None:
        if self.on_close:
            self.on_close()
            self.on_close = None
        super().close()

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        if self._ahead:
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            return b"" if self._is_tls(data) else data
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
    """A WSGI application that serves at most `at_once` requests at a time, each after its body has arrived.

    Reads may take three quarters of these slots, and half of the threads until their answers are sent; a quarter of the
    threads wait for large bodies. What exceeds its part of the threads is refused at once. Of requests with a large
    body it serves `LARGE_AT_ONCE`, so that they share a bounded amount of memory.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]], at_once: int) -> None:
        self._application = application
        threads = at_once * THREADS_PER_REQUEST
        self._slots = threading.BoundedSemaphore(at_once)
        self._read_slots = threading.BoundedSemaphore(max(1, at_once - at_once // 4))
        self._large_slots = threading.BoundedSemaphore(LARGE_AT_ONCE)
        self._read_threads = threading.BoundedSemaphore(threads // 2)
        self._upload_threads = threading.BoundedSemaphore(threads // 4)
        self._lines = refusals.RefusalLog()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("REQUEST_METHOD") not in _READS or environ.get("PATH_INFO") in _NO_READS:
            return self._serve(environ, start_response, [self._slots])
        if not self._read_threads.acquire(blocking=False):
            return self._refuse(environ, start_response)
        try:
            answer = self._serve(environ, start_response, [self._read_slots, self._slots])
        except BaseException:
            self._read_threads.release()
            raise
        return ClosingIterator(answer, self._read_threads.release)

    def _serve(
        self, environ: dict[str, Any], start_response: Callable[..., Any], waits: list[threading.BoundedSemaphore]
    ) -> Iterable[bytes]:
        client = environ["gunicorn.socket"]
        is_upload = isinstance(client, PacedSocket) and not client.has_arrived
        if is_upload and not self._upload_threads.acquire(blocking=False):
            raise TooManyUploads  # closes the connection, without waiting for a body that may never come
        try:
            body = receive(environ["wsgi.input"], environ.get("CONTENT_LENGTH"))
        except (ChunkMissingTerminator, InvalidChunkExtension, InvalidChunkSize) as error:
            raise InvalidHeader(str(error)) from error  # answered with 400, and the connection closed
        finally:
            if is_upload:
                self._upload_threads.release()
        environ["wsgi.input"] = body
        size = plain_size(body, environ.get("HTTP_CONTENT_ENCODING"))
        with body, ExitStack() as slots:
            until = time.monotonic() + CLIENT_TIMEOUT_S
            for slot in [self._large_slots, *waits] if size > LARGE else waits:
                if not slot.acquire(timeout=max(0, until - time.monotonic())):
                    return self._refuse(environ, start_response)
                slots.callback(slot.release)
            answer = self._application(environ, start_response)
        _restart_timeout(client)
        return answer

    def _refuse(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request_id = refusals.accepted_id(environ.get("HTTP_X_REQUEST_ID"))
        body = _problem("too-busy", _TOO_BUSY, request_id, retry_after=1)
        headers = [("Content-Type", "application/problem+json"), ("Content-Length", str(len(body)))]
        start_response("503 Service Unavailable", [*headers, ("Retry-After", "1"), (refusals.REQUEST_ID, request_id)])
        self._lines.write("(any route)", environ.get("REQUEST_METHOD", ""), 503, "too-busy", request_id)
        return [body]


class Worker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """`threads` is the number of requests served at once; further threads wait for clients.

    `connections`: counts those of each address, and bounds them where clients connect directly. `succession`: tells
    whether a reload's new workers are ready; `generation`: this worker's own.
    """

    succession: Succession | None = None
    generation = 0

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.connections = ConnectionCounts()
        self.max_keepalived = int(self.worker_connections * _KEPT_SHARE)
        self._lingering: deque[TConn] = deque()
        self._ends_at: float | None = None  # unless a successor is ready before

    def get_thread_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=self.cfg.threads * THREADS_PER_REQUEST)

    def init_process(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        needed = self.worker_connections + _FILES
        if soft < needed:
            most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        super().init_process()

    def load_wsgi(self) -> None:
        super().load_wsgi()
        self.wsgi = ConcurrencyLimit(self.wsgi, self.cfg.threads)  # type: ignore[has-type]

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait for events, but briefly, since a shutdown closes idle connections only in between."""
        super().wait_for_and_dispatch_events(min(timeout, _MAX_WAIT_S if self._ends_at is None else _LOOK_S))
        if self._ends_at is not None and (time.monotonic() > self._ends_at or not self._is_awaited()):
            self.alive = False

    def handle_exit(self, sig: int, frame: Any) -> None:
        """End after the requests under way; at a reload only when a new worker serves, or nobody would meanwhile."""
        if self._ends_at is None and self._is_awaited():
            self._ends_at = time.monotonic() + LONGEST_S
            self.method_queue.defer(_nothing)
        else:
            super().handle_exit(sig, frame)

    def _is_awaited(self) -> bool:
        return self.succession is not None and self.succession.is_awaited(self.generation)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Accept connections, or stop. A worker that ends first accepts what has connected already."""
        super().set_accept_enabled(enabled)
        if enabled or self.alive:
            return
        for listener in self.sockets:
            # else they would be reset when the last process lets go of the listener
            while self.nr_conns < self.worker_connections and _is_readable(listener):
                self._accept(listener)
            listener.close()

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection, later the more this worker has, so that a less busy one comes first."""
        if self.nr_conns <= _MANY:
            time.sleep(min(self.nr_conns * _ACCEPT_DELAY_S, _MAX_ACCEPT_DELAY_S))
        self._accept(listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE}:
                raise
            self._drop_oldest()
            time.sleep(_OUT_OF_FILES_S)

    def enqueue_req(self, conn: TConn) -> None:
        """Hand a connection to a thread; a new one only after its first request has arrived."""
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
            return
        if self.nr_conns >= self.worker_connections:
            self._drop_oldest()
        release = None if self.cfg.is_ssl else self.connections.take(conn.client)
        if release is None and not self.cfg.is_ssl:
            self.nr_conns -= 1
            conn.close()
            return
        old = conn.sock
        conn.sock = PacedSocket(old.family, old.type, old.proto, fileno=old.detach())
        conn.sock.on_close = release
        conn.sock.setblocking(False)
        self._await(conn, self.pending_conns, self.on_pending_socket_readable)

    def on_pending_socket_readable(self, conn: TConn, client: Any) -> None:  # noqa: ARG002 - gunicorn's own has it
        """Receive more of a request, and hand it to a thread when it is there."""
        self._receive(conn, self.pending_conns, super().on_pending_socket_readable)

    def on_client_socket_readable(self, conn: TConn, client: Any) -> None:
        """Receive the next request of a kept connection."""
        if self._receive(conn, self.keepalived_conns, super().on_client_socket_readable) == "waits":
            self.poller.unregister(client)
            self.keepalived_conns.remove(conn)
            self._await(conn, self.pending_conns, self.on_pending_socket_readable)

    def finish_request(self, conn: TConn, fs: Future[object]) -> None:
        """Keep a connection as its answer said, or close it once the client has, without a thread that waits."""
        is_kept = not fs.cancelled() and fs.exception() is None and fs.result()
        client = conn.sock
        if not isinstance(client, PacedSocket):
            super().finish_request(conn, fs)
            return
        if client.fileno() >= 0:
            client.setblocking(False)
        if is_kept and client.has_more:  # a pipelined request
            if client.arrival() == "waits":
                self._await(conn, self.pending_conns, self.on_pending_socket_readable)
            else:
                self.enqueue_req(conn)
        elif is_kept:  # also by a worker that ends, which answers once more and says that it closes
            self._await(conn, self.keepalived_conns, self.on_client_socket_readable)
        elif client.too_slow or not _shut(client):
            self._drop(conn)
        else:
            self._await(conn, self._lingering, self._on_lingering_readable, _LINGER_S)

    def murder_pending(self) -> None:
        super().murder_pending()
        while self._lingering and self._lingering[0].timeout <= time.monotonic():
            self._forget(self._lingering[0], self._lingering)

    def handle(self, conn: TConn) -> object:
        """Serve a connection's requests, in a thread. Returns whether to keep the connection."""
        keep_alive = self._serve(conn)
        if keep_alive is True and isinstance(conn.sock, PacedSocket):
            conn.sock.put_back(conn.parser.unreader.take_buffered())  # a pipelined request
        while keep_alive is True and conn.parser.unreader.buf.getbuffer().nbytes:  # with TLS
            keep_alive = self._serve(conn)
        if not keep_alive:
            self._log_end(conn)
        return keep_alive

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer a request that can't be served, without logging or quoting it: a broken header may hold a key."""
        request_id = refusals.accepted_id(_sent_id(req))
        retry = ""
        if isinstance(exc, TooManyUploads):
            status, title, retry = 503, "Service Unavailable", "Retry-After: 1\r\n"
            body = _problem("too-busy", _TOO_BUSY, request_id, retry_after=1)
        elif isinstance(exc, ParseException):
            self.log.warning("malformed request %s from %s: %s", request_id, _name(addr), type(exc).__name__)
            status, title = _STATUSES.get(type(exc), (400, "Bad Request"))
            detail = "This is not a valid HTTP/1.1 request"
            body = _problem("bad-request", detail, request_id, status=status, title=title)
        else:
            self.log.error("unexpected error in request %s", request_id, exc_info=exc)
            status, title = 500, "Internal Server Error"
            body = _problem("internal-error", "Unexpected. Send the same call again", request_id)
        head = f"HTTP/1.1 {status} {title}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
        head += f"{refusals.REQUEST_ID}: {request_id}\r\n{retry}"
        with suppress(OSError):  # the client has disconnected
            util.write_nonblock(client, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def _serve(self, conn: TConn) -> object:
        _restart_timeout(conn.sock)
        return cast("object", super().handle(conn))

    def _await(
        self, conn: TConn, queue: deque[TConn], callback: Callable[..., None], seconds: float | None = None
    ) -> None:
        """Wait in the event loop until a client sends something. `queue`: of those with as much time."""
        conn.timeout = time.monotonic() + (self.cfg.keepalive if seconds is None else seconds)
        queue.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(callback, conn))

    def _receive(self, conn: TConn, queue: deque[TConn], serve: Callable[..., None]) -> arrival.Arrival:
        client = conn.sock
        if client.fileno() < 0:
            return "ended"  # closed to make room, by an event of the same round
        state: arrival.Arrival = "served" if self.cfg.is_ssl else client.receive_ahead()
        if state == "ended":
            self._forget(conn, queue)
        elif state != "waits":
            serve(conn, client)
        return state

    def _on_lingering_readable(self, conn: TConn, client: socket.socket) -> None:
        if client.fileno() < 0:
            return
        try:
            while client.recv(arrival.MOST):
                pass
        except BlockingIOError:
            return
        except OSError:
            pass
        self._forget(conn, self._lingering)

    def _drop_oldest(self) -> None:
        """Close the connection that has taken longest to send its request, to make room for another."""
        for queue in (self._lingering, self.pending_conns):
            if queue:
                self._forget(queue[0], queue)
                return

    def _forget(self, conn: TConn, queue: deque[TConn]) -> None:
        queue.remove(conn)
        self.poller.unregister(conn.sock)
        self._drop(conn)

    def _drop(self, conn: TConn) -> None:
        self.nr_conns -= 1
        conn.close()

    def _log_end(self, conn: TConn) -> None:
        if not isinstance(conn.sock, PacedSocket):
            return
        if conn.sock.too_slow:
            self.log.info("client %s was too slow for %d s; connection closed", _name(conn.client), CLIENT_TIMEOUT_S)
        if conn.sock.spoke_tls:
            self.log.warning("%s spoke TLS to a port without TLS: use http://, or a proxy", _name(conn.client))


def _shut(client: socket.socket) -> bool:
    """Say that nothing follows. Return False if the client has closed its end, or is gone."""
    try:
        client.shutdown(socket.SHUT_WR)
    except OSError:
        return False
    return True


def _nothing() -> None:
    """Wake the event loop."""


def _is_readable(listener: socket.socket) -> bool:
    poll = select.poll()
    poll.register(listener.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _name(address: Any) -> str:
    return str(address[0]) if address else "a client"  # clients of a Unix socket have no address


def _sent_id(req: Any) -> str | None:
    """Return the id in a request's headers; None if they were not parsed."""
    headers: list[tuple[str, str]] = getattr(req, "headers", None) or []
    return next((value for name, value in headers if name.upper() == refusals.REQUEST_ID.upper()), None)


def _restart_timeout(client: socket.socket) -> None:
    if isinstance(client, PacedSocket):  # not with TLS
        client.restart_timeout()
