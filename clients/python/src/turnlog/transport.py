"""HTTP/1.1 over one connection that is kept open, by the standard library."""

from __future__ import annotations

import http.client
import json
import math
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

_SLOWEST = 100_000  # bytes a second of the slowest connection that gets a large body through
_LARGEST_ANSWER = 64 << 20
_LONGEST_PAUSE_S = 3600.0


class Answer(NamedTuple):
    """What the service answered. `retry_after`: seconds."""

    status: int
    retry_after: float | None
    body: Any


class UnreachableError(Exception):
    """The service can't be reached, or answered with something that isn't HTTP."""


class Transport(Protocol):
    """Whatever answers a POST as the service does."""

    def post(self, path: str, body: bytes) -> Answer: ...
    def leave(self) -> None: ...


class HttpTransport:
    """Used by one thread at a time."""

    def __init__(self, url: str, key: str | None, timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is no address of Turnlog, such as http://127.0.0.1:8000")
        self._host, self._port, self._is_tls = parts.hostname, parts.port, parts.scheme == "https"
        self._prefix, self._timeout = parts.path.rstrip("/"), timeout
        self._headers = {"Content-Type": "application/json", "User-Agent": "turnlog-python"}
        if key:
            if not key.isascii() or not key.isprintable():
                raise ValueError("The key has characters that no key has")
            self._headers["Authorization"] = f"Bearer {key.strip()}"
        self._connection: http.client.HTTPConnection | None = None

    def leave(self) -> None:
        """Leave the connection to the parent process after a fork."""
        connection, self._connection = self._connection, None
        if connection is not None and connection.sock is not None:
            connection.sock.close()  # this process's copy; a TLS connection says no good-bye

    def post(self, path: str, body: bytes) -> Answer:
        """Raises `UnreachableError`."""
        while True:
            is_fresh = self._connection is None
            try:
                return self._post(path, body)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._close()
                # a connection that was kept open may be gone, after a frozen hour for one: one more try, as it is safe
                if is_fresh or isinstance(error, TimeoutError):
                    raise UnreachableError(f"{self._host} can't be reached: {type(error).__name__}: {error}") from error

    def _post(self, path: str, body: bytes) -> Answer:
        timeout = self._timeout + len(body) / _SLOWEST
        if self._connection is None:
            if self._is_tls:
                context = ssl.create_default_context()
                self._connection = http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=context)
            else:
                self._connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        elif self._connection.sock is not None:
            self._connection.sock.settimeout(timeout)
        self._connection.request("POST", self._prefix + path, body, self._headers)
        response = self._connection.getresponse()
        content = response.read(_LARGEST_ANSWER)
        if response.will_close or not response.isclosed():
            self._close()
        try:
            parsed = json.loads(content)
        except ValueError:
            parsed = None  # a proxy's page
        return Answer(response.status, _seconds(response.getheader("Retry-After")), parsed)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _seconds(header: str | None) -> float | None:
    """Return the seconds of a Retry-After, which may be a date."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return min(max(0.0, seconds), _LONGEST_PAUSE_S) if math.isfinite(seconds) else None
