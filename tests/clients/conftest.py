"""What the tests of clients log to: the service as its users run it, and a service that answers as it is told."""

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.databases import TestServer
from tests.service import Service, launch
from turnlog import Turnlog
from turnlog.testing import MemoryService


def run_async(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in a thread of its own: where a test has used a browser, this one has a loop that runs."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


@dataclass
class Log:
    """A running service, and what it has."""

    service: Service

    @property
    def url(self) -> str:
        return self.service.url

    def transcript(self, session: str) -> list[dict[str, Any]]:
        """Return all interactions of a session."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            params = {"limit": "1000", "branches": "all"} | ({"cursor": cursor} if cursor else {})
            page = httpx.get(f"{self.url}/v1/sessions/{session}/interactions", params=params, timeout=30)
            if page.status_code == httpx.codes.NOT_FOUND:
                return found
            found += page.raise_for_status().json()["interactions"]
            if not (cursor := page.json()["next"]):
                return found

    def session(self, session: str) -> dict[str, Any]:
        row: dict[str, Any] = httpx.get(f"{self.url}/v1/sessions/{session}").raise_for_status().json()
        return row


@pytest.fixture(scope="module")
def log_service(postgres_server: TestServer) -> Iterator[Log]:
    with postgres_server.database() as name, launch({"DATABASE_URL": postgres_server.conninfo(name)}) as service:
        service.wait_until_ready()
        yield Log(service)


Answer = tuple[int, dict[str, str], bytes]


@dataclass
class ToldService:
    """A server that answers with what `answers` has, one by one, then as a service with an empty database."""

    url: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    answers: list[Answer | Callable[[], Answer]] = field(default_factory=list)
    memory: MemoryService = field(default_factory=MemoryService)

    def say(self, status: int, body: Any = None, **headers: str) -> None:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.append((status, sent, json.dumps(body).encode()))

    def answer(self, path: str, body: bytes) -> Answer:
        self.calls.append((path, json.loads(body)))
        if self.answers:
            told = self.answers.pop(0)
            return told() if callable(told) else told
        status, _, receipts = self.memory.post(path[path.index("/v1/") :], body)
        return status, {}, json.dumps(receipts).encode()


@pytest.fixture
def told() -> Iterator[ToldService]:
    service = ToldService()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, content = service.answer(self.path, body)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(content))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the class it is from
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that was killed

    server = Server(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


OpenLog = Callable[..., Turnlog]


@pytest.fixture
def open_log(tmp_path: Path) -> Iterator[OpenLog]:
    """Return a way to open logs whose spool is a folder of the test's; they are closed with it."""
    opened: list[Turnlog] = []

    def open_(url: str, **options: Any) -> Turnlog:
        opened.append(Turnlog(url, **{"spool": tmp_path / "spool", **options}))
        return opened[-1]

    yield open_
    for log in opened:
        log.close(0)
