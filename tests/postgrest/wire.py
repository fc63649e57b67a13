"""HTTP/1.1 on one socket: requests in, answers out, the connection kept for the next request.

Hand-made, since the standard library's server spends more time on a request's headers than Postgres on a
small function. A body comes with Content-Length; a chunked one is not understood.
"""

import contextlib
import socket
import struct
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from tests.postgrest.answers import Answer

CHUNK = 1 << 16
PREFIXES = ("/rest/v1/rpc/", "/rpc/")


@dataclass(frozen=True)
class Request:
    """One request; header names are lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def function(self) -> str | None:
        """The function that the path names, unless it names none."""
        for prefix in PREFIXES:
            if self.path.startswith(prefix):
                return urllib.parse.unquote(self.path.removeprefix(prefix))
        return None

    @property
    def keep_alive(self) -> bool:
        return self.headers.get("connection", "").lower() != "close"


class Wire:
    def __init__(self, sock: socket.socket) -> None:
        # Without it the last segment of an answer may wait for the acknowledgement of the one before.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._received = bytearray()

    def receive(self) -> Request | None:
        """Wait for the next request; None when the peer has gone, or speaks something else than HTTP/1.1."""
        head_end = self._receive_until_blank_line()
        if head_end is None:
            return None
        try:
            request_line, *lines = self._received[:head_end].decode("latin-1").split("\r\n")
            method, target, _ = request_line.split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (ln.partition(":") for ln in lines)}
            length = int(headers.get("content-length", "0"))
        except ValueError:
            return None
        del self._received[: head_end + 4]
        body = self._receive_exactly(length)
        if body is None:
            return None
        path, _, query = target.partition("?")
        return Request(method, path, query, headers, body)

    def send(self, answer: Answer) -> bool:
        """Send an answer in one piece; False when the peer has gone."""
        return self._send(_head(answer) + answer.body)

    def send_part(self, answer: Answer, length: int | None) -> bool:
        """Send so much, or half, of the body that the head announces; False, as only closing can follow."""
        self._send(_head(answer) + answer.body[: len(answer.body) // 2 if length is None else length])
        return False

    def send_slowly(self, answer: Answer, pause: Callable[[], bool]) -> bool:
        """Send an answer byte by byte, pausing after each until `pause` says to stop; False when the peer has gone."""
        message = _head(answer) + answer.body
        return all(self._send(message[at : at + 1]) and not pause() for at in range(len(message)))

    def reset_when_closed(self) -> None:
        """Let the peer meet a reset instead of the end of a stream."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _send(self, message: bytes) -> bool:
        try:
            self._socket.sendall(message)
        except OSError:
            return False
        return True

    def _receive_until_blank_line(self) -> int | None:
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            if not self._receive_more():
                return None
        return end

    def _receive_exactly(self, length: int) -> bytes | None:
        while len(self._received) < length:
            if not self._receive_more():
                return None
        body = bytes(self._received[:length])
        del self._received[:length]
        return body

    def _receive_more(self) -> bool:
        with contextlib.suppress(OSError):  # a reset, or our own shutdown: the peer is gone either way
            if chunk := self._socket.recv(CHUNK):
                self._received += chunk
                return True
        return False


_PHRASES = {int(status): status.phrase for status in HTTPStatus}


def _head(answer: Answer) -> bytes:
    reason = _PHRASES.get(answer.status, "") if answer.reason is None else answer.reason
    lines = [f"HTTP/1.1 {answer.status} {_one_line(reason)}"]
    lines += [f"{name}: {_one_line(value)}" for name, value in answer.headers.items()]
    if answer.status != HTTPStatus.NO_CONTENT:
        lines.append(f"Content-Length: {len(answer.body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")
