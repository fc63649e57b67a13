"""The road between a page and the service: an HTTP proxy that answers in its place, or loses answers, when told so."""

import http.client
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"}


@dataclass
class Call:
    """One POST that came by. `status`: what the page was answered, 0 if nothing."""

    path: str
    headers: dict[str, str]
    body: Any
    at: float = field(default_factory=time.monotonic)
    status: int = 0


@dataclass
class Answer:
    """What is answered in the service's place."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"


class LoseAnswer:
    """The service does its work, and its answer gets lost."""


class LoseCall:
    """The call gets lost before the service."""


Fault = Answer | LoseAnswer | LoseCall
#: For each POST: what goes wrong, if anything.
Chooser = Callable[[Call], Fault | None]


class Road:
    def __init__(self, service: str) -> None:
        self.calls: list[Call] = []
        self.choose: Chooser = lambda _: None
        self.service = urlsplit(service).netloc
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.road = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def next_are(self, *faults: Fault | None, path: str = "/v1/") -> None:
        """Let the next POSTs of a path meet these, one each."""
        left, lock = list(faults), threading.Lock()

        def choose(call: Call) -> Fault | None:
            with lock:
                return left.pop(0) if left and call.path.startswith(path) else None

        self.choose = choose

    def is_cut(self) -> None:
        """Lose every call from now on."""
        self.choose = lambda _: LoseCall()

    def is_mended(self) -> None:
        self.choose = lambda _: None

    def to(self, path: str) -> list[Call]:
        return [call for call in self.calls if call.path == path]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    road: Road


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        call = Call(self.path, {name.lower(): value for name, value in self.headers.items()}, json.loads(body))
        self.server.road.calls.append(call)
        fault = self.server.road.choose(call)
        if isinstance(fault, Answer):
            call.status = fault.status
            self._answer(fault.status, fault.headers | self._allowed(), fault.body)
        elif not isinstance(fault, LoseCall) and (answer := self._ask(body)) and not isinstance(fault, LoseAnswer):
            call.status = answer[0]
            self._answer(*answer)
        else:
            self.close_connection = True

    def do_OPTIONS(self) -> None:
        if answer := self._ask(b""):
            self._answer(*answer)
        else:
            self.close_connection = True  # as if nobody listened

    def _allowed(self) -> dict[str, str]:
        return {
            "Access-Control-Allow-Origin": self.headers.get("Origin", "*"),
            "Access-Control-Expose-Headers": "Retry-After",
            "Vary": "Origin",
        }

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes] | None:
        """Return the service's answer; None if it is away."""
        connection = http.client.HTTPConnection(self.server.road.service, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
            return answer.status, kept, answer.read()
        except OSError:
            return None
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: the tests look at `Road.calls`."""
