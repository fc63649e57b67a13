"""An absolute deadline for httpx calls, whose own timeouts restart with each chunk.

    with until(time.monotonic() + 5):
        client.get(url)  # raises httpx.TimeoutException or another httpx.TransportError in time

Otherwise a server that sends a byte now and then would block a thread for ever.
"""

import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

_CHUNK = 64 * 1024  # bytes
_this_call = threading.local()


@contextmanager
def until(deadline: float) -> Iterator[None]:
    """Limit the network calls of this thread to a time of the monotonic clock."""
    _this_call.deadline = deadline
    try:
        yield
    finally:
        del _this_call.deadline


def install(client: httpx.Client) -> None:
    """Make a client's connections observe the deadline of the thread that uses them."""
    for transport in (client._transport, *client._mounts.values()):  # noqa: SLF001 - httpx has no way to name a backend
        if isinstance(transport, httpx.HTTPTransport):
            transport._pool._network_backend = _Backend()  # noqa: SLF001
    client.event_hooks["request"].append(_limit_wait_for_connection)


def _limit_wait_for_connection(request: httpx.Request) -> None:
    timeouts = request.extensions["timeout"]
    try:
        left = _remaining(timeouts["pool"])
    except httpcore.ReadTimeout as error:  # nothing is on its way yet, so httpx doesn't convert it
        raise httpx.PoolTimeout(str(error), request=request) from error
    request.extensions["timeout"] = timeouts | {"pool": left}


def _remaining(timeout: float | None) -> float | None:
    deadline: float | None = getattr(_this_call, "deadline", None)
    if deadline is None:
        return timeout
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the deadline of the call is over")
    return left if timeout is None else min(timeout, left)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _remaining(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # in chunks, since the timeout restarts for each send
        for start in range(0, len(buffer), _CHUNK):
            self._inner.write(buffer[start : start + _CHUNK], _remaining(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, _remaining(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    def __init__(self) -> None:
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.connect_tcp(host, port, _remaining(timeout), local_address, socket_options))
