"""Whatever others read, hold half open or reload: each write is answered, stored and never spooled.

Counts decide; how long writes take is measured by `python -m tests.faults.pressure`.
"""

import http.client
import signal
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest

from conversation.server.worker import THREADS_PER_REQUEST
from tests.databases import TestServer
from tests.faults.pressure import PATIENCE_S, Answers, Writers, fill, pressed, reloading
from tests.service import Service, launch

WRITES = 100
THREADS = 16  # TURNLOG_THREADS
UPLOAD = (
    b"POST /v1/interactions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)


@pytest.fixture(scope="module")
def database(postgres_server: TestServer) -> Iterator[str]:
    with postgres_server.database() as name:
        yield postgres_server.conninfo(name)


@pytest.fixture(scope="module")
def service(database: str) -> Iterator[Service]:
    with launch({"DATABASE_URL": database}) as service:
        service.wait_until_ready()
        fill(service.url, None, 5000)
        yield service


@pytest.mark.parametrize("kind", ["searches", "exports", "half_open", "half_heads", "half_bodies", "half_uploads"])
def test_every_write_is_answered_and_none_is_spooled(service: Service, database: str, kind: str) -> None:
    with pressed(kind, service.url) as seen, Writers(service.url) as writers:
        writers.wait_for(WRITES)
        threads = max(worker.num_threads() for worker in service.workers())
    assert_all_stored(writers.answers, database)
    if kind in {"half_open", "half_heads", "half_bodies"}:
        assert seen["opened"] > 0
        assert threads < THREADS * THREADS_PER_REQUEST / 2, "what hasn't arrived holds no thread"
    elif kind == "half_uploads":
        assert threads < THREADS * THREADS_PER_REQUEST, "large bodies are awaited in a part of the threads"
    else:
        assert set(seen) <= {"200", "503"}, "a refusal says when to come again"
        assert seen["503"] > 0
        assert seen["200"] > 0


def test_reloads_lose_no_call(database: str) -> None:
    with launch({"DATABASE_URL": database}) as service:
        service.wait_until_ready()
        with Writers(service.url) as writers, reloading(service) as seen:
            give_up = time.monotonic() + PATIENCE_S
            while seen["reloads"] < 2:
                writers.wait_for(10)
                assert time.monotonic() < give_up
    assert_all_stored(writers.answers, database)


def test_workers_that_end_after_so_many_requests_lose_no_call(database: str) -> None:
    replaced = {"DATABASE_URL": database, "GUNICORN_CMD_ARGS": "--max-requests 30 --max-requests-jitter 30"}
    with launch(replaced) as service:
        service.wait_until_ready()
        first = {worker.pid for worker in service.workers()}
        with Writers(service.url) as writers:
            writers.wait_for(3 * WRITES)
            assert first.isdisjoint(worker.pid for worker in service.workers())
    assert_all_stored(writers.answers, database)


def test_a_connection_that_was_promised_to_stay_is_answered_once_more(database: str) -> None:
    body = b'{"session_id": "s", "interaction_id": "kept", "prompt": "%s"}' % (b"x" * 100_000)
    with launch({"DATABASE_URL": database}, workers=1) as service:
        service.wait_until_ready()
        client = http.client.HTTPConnection("127.0.0.1", urlsplit(service.url).port, timeout=PATIENCE_S)
        client.connect()
        client.sock.sendall(UPLOAD % len(body) + body[:90_000])
        old = service.workers()
        wait_until_reading(old[0])
        service.process.send_signal(signal.SIGHUP)
        while service.workers() == old:
            time.sleep(0.01)
        client.sock.sendall(body[90_000:])
        first = http.client.HTTPResponse(client.sock, method="POST")
        first.begin()
        first.read()
        assert first.status == 201
        if not first.will_close:
            client.sock.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            second = http.client.HTTPResponse(client.sock, method="GET")
            second.begin()
            assert second.status == 200
        client.close()


def test_what_has_connected_before_a_stop_is_answered(database: str) -> None:
    with launch({"DATABASE_URL": database}, workers=1) as service:
        service.wait_until_ready()
        (worker,) = service.workers()
        worker.suspend()
        clients = [socket.create_connection(("127.0.0.1", urlsplit(service.url).port), PATIENCE_S) for _ in range(8)]
        for client in clients:
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        service.process.send_signal(signal.SIGTERM)
        give_up = time.monotonic() + PATIENCE_S
        while "Handling signal: term" not in service.whole_log():  # the master has let go of its socket then
            assert time.monotonic() < give_up
            time.sleep(0.01)
        worker.resume()
        for client in clients:
            assert client.recv(100).startswith(b"HTTP/1.1 200 ")
            client.close()


def assert_all_stored(answers: Answers, database: str) -> None:
    assert answers.lost == []
    assert set(answers.statuses) == {201}
    assert set(answers.receipts) == {"created"}
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "select count(*) from turnlog.ai_interactions where id = any(%s::uuid[])", [answers.ids]
        ).fetchone()
    assert rows == (len(answers.ids),)


def wait_until_reading(worker: psutil.Process) -> None:
    """Return when a worker has received all that was sent to it."""
    port = next(each.laddr.port for each in worker.net_connections("tcp") if each.status == "LISTEN")
    give_up = time.monotonic() + PATIENCE_S
    while not any(each.status == "ESTABLISHED" and each.laddr.port == port for each in worker.net_connections("tcp")):
        assert time.monotonic() < give_up
        time.sleep(0.01)
    time.sleep(0.5)  # nothing depends on it: with too short a time, the test tries less
