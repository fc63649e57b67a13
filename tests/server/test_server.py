"""The set-up of gunicorn: loading before the workers fork, and stops that complete running requests."""

import io
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from conversation.server import worker
from conversation.server.worker import ConcurrencyLimit
from tests.databases import server_folder
from tests.service import Service, launch

BODY = b'{"session_id": "stopped", "interaction_id": "turn-1", "prompt": "Under way"}'
HEAD = (
    "POST /v1/interactions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(BODY)}\r\nExpect: 100-continue\r\n\r\n"
)


def test_the_application_may_be_loaded_before_the_workers() -> None:
    with (
        server_folder(on_disk=True) as folder,
        launch({"DATA_DIR": str(folder), "GUNICORN_CMD_ARGS": "--preload"}) as service,
        httpx.Client(base_url=service.url, timeout=30) as client,
    ):
        service.wait_until_ready()
        for turn in range(20):
            call = {"session_id": "s", "interaction_id": f"turn-{turn}", "prompt": "Loaded before", "turn": turn}
            # connections of their own, so that each worker gets some
            answer = httpx.post(f"{service.url}/v1/interactions", json=call, timeout=30)
            assert answer.status_code == 201
        transcript = client.get("/v1/sessions/s/interactions").json()["interactions"]
        assert [each["turn"] for each in transcript] == list(range(20))


def test_a_stop_waits_for_a_request_that_has_begun(database: str) -> None:
    with launch({"DATABASE_URL": database}) as service:
        service.wait_until_ready()
        with socket.create_connection(("127.0.0.1", urlsplit(service.url).port), timeout=60) as client:
            client.sendall(HEAD.encode())
            assert client.recv(100).startswith(b"HTTP/1.1 100 ")  # a worker has it
            service.process.send_signal(signal.SIGTERM)
            wait_for("Handling signal: term", service)
            client.sendall(BODY)
            assert client.recv(100).startswith(b"HTTP/1.1 201 ")
        assert service.process.wait(60) == 0


def test_who_gets_no_turn_is_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "CLIENT_TIMEOUT_S", 0.1)
    entered, leave = threading.Event(), threading.Event()

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        entered.set()
        leave.wait(60)
        start_response("200 OK", [])
        return []

    limited = ConcurrencyLimit(application, at_once=1)
    with ThreadPoolExecutor() as callers:
        first = callers.submit(call, limited)
        assert entered.wait(60)
        status, headers = call(limited)
        assert (status, headers["Retry-After"]) == ("503 Service Unavailable", "1")
        assert len(headers["X-Request-Id"]) == 24
        assert call(limited, HTTP_X_REQUEST_ID="r1")[1]["X-Request-Id"] == "r1"
        leave.set()
        assert first.result(60) == ("200 OK", {})
        assert call(limited) == ("200 OK", {})


def call(application: ConcurrencyLimit, **sent: Any) -> tuple[str, dict[str, str]]:
    answered: list[Any] = []
    client, server = socket.socketpair()
    with client, server:
        environ = {"wsgi.input": io.BytesIO(), "gunicorn.socket": server, **sent}
        application(environ, lambda status, headers: answered.extend([status, dict(headers)]))
    return answered[0], answered[1]


def wait_for(line: str, service: Service) -> None:
    give_up = time.monotonic() + 60
    while line not in service.log():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_few_large_bodies_are_served_at_once_and_small_ones_meanwhile() -> None:
    large = b"x" * (worker.LARGE + 1)
    serving, most, finished = 0, 0, 0
    counting, entered, leave = threading.Lock(), threading.Semaphore(0), threading.Event()

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        nonlocal serving, most, finished
        if len(environ["wsgi.input"].read()) > worker.LARGE:
            with counting:
                serving += 1
                most = max(most, serving)
            entered.release()
            leave.wait(60)
            with counting:
                serving -= 1
                finished += 1
        start_response("200 OK", [])
        return []

    limited = ConcurrencyLimit(application, at_once=worker.LARGE_AT_ONCE + 1)
    with ThreadPoolExecutor() as callers:
        calls = [callers.submit(call, limited, **{"wsgi.input": io.BytesIO(large)}) for _ in range(5)]
        assert all(entered.acquire(timeout=60) for _ in range(worker.LARGE_AT_ONCE))
        assert call(limited, **{"wsgi.input": io.BytesIO(b"small")}) == ("200 OK", {})
        leave.set()
        assert [each.result(60)[0] for each in calls] == ["200 OK"] * 5
    assert (most, finished) == (worker.LARGE_AT_ONCE, 5)
