"""Clients that stall, drip or never read are disconnected, and delay nobody else."""

import http.client
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import httpx
import pytest

from conversation.access.limits import MAX_BODY
from conversation.server import worker as slow_clients
from conversation.server.worker import MIN_BYTES_PER_S, ClientTooSlow, PacedSocket
from tests.databases import TestServer
from tests.service import Service, launch

pytestmark = pytest.mark.faults

SLOW_CLIENTS = 50
HEALTHY_CALLS = 20
ANSWERED_S = 6.0  # far more than it takes, and less than until the slow ones are cut off
CUT_OFF_S = 40.0  # they are after ten; a busy machine may take its time
DRIP_S = 0.5

HEAD = "POST /v1/interactions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODY = b'{"session_id": "slow", "interaction_id": "slow", "prompt": "' + b"x" * 1000 + b'"}'
WITH_LENGTH = f"{HEAD}Content-Length: {len(BODY)}\r\n\r\n".encode()
GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
LARGE = "/v1/sessions/large/interactions"


@pytest.fixture(scope="module")
def service(postgres_server: TestServer) -> Iterator[Service]:
    with postgres_server.database() as name, launch({"DATABASE_URL": postgres_server.conninfo(name)}) as service:
        service.wait_until_ready()
        large = {"session_id": "large", "interaction_id": "large", "prompt": "x" * (MAX_BODY - 1000)}
        httpx.post(f"{service.url}/v1/interactions", json=large, timeout=60).raise_for_status()
        yield service


def half_a_header(client: socket.socket) -> None:
    client.sendall(HEAD.encode())


def half_a_body(client: socket.socket) -> None:
    client.sendall(WITH_LENGTH + BODY[:500])


def half_a_chunk(client: socket.socket) -> None:
    client.sendall(HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n400\r\n" + BODY[:500])


def half_of_far_too_much(client: socket.socket) -> None:
    client.sendall(f"{HEAD}Content-Length: {4 * MAX_BODY}\r\n\r\n".encode() + BODY)


def never_reads(client: socket.socket) -> None:
    client.sendall(GET % LARGE.encode())
    client.recv(1)  # the answer has begun


def never_leaves(client: socket.socket) -> None:
    client.sendall(LAST)


def says_nothing(client: socket.socket) -> None:
    """Be connected, as browsers are ahead of the first request."""


@pytest.mark.parametrize(
    "kinds",
    [[half_a_header], [half_a_body, half_a_chunk, half_of_far_too_much, says_nothing], [never_reads], [never_leaves]],
    ids=["half a header", "half a body", "never reading", "never leaving"],
)
def test_slow_clients_cost_only_themselves(service: Service, kinds: list[Callable[[socket.socket], None]]) -> None:
    with ExitStack() as open_:
        slow = [open_.enter_context(connect(service)) for _ in range(SLOW_CLIENTS)]
        for number, client in enumerate(slow):
            kinds[number % len(kinds)](client)
        assert_others_are_served(service)
        assert_cut_off(service, slow)


def test_a_drip_does_not_keep_a_connection(service: Service) -> None:
    over = threading.Event()

    def drip(clients: list[socket.socket]) -> None:
        for header, body in zip(WITH_LENGTH, BODY, strict=False):
            for number, client in enumerate(clients):
                with suppress(OSError):  # it has been cut off
                    client.send(bytes([body if number % 2 else header]))
            if over.wait(DRIP_S):
                return

    with ExitStack() as open_:
        slow = [open_.enter_context(connect(service)) for _ in range(SLOW_CLIENTS)]
        for client in slow[1::2]:
            client.sendall(WITH_LENGTH)
        dripping = threading.Thread(target=drip, args=[slow])
        dripping.start()
        open_.callback(dripping.join)
        open_.callback(over.set)
        assert_others_are_served(service)
        assert_cut_off(service, slow)


@pytest.mark.parametrize("way", ["header and body apart", "chunks", "expect", "a byte at a time", "16 MB in pieces"])
def test_unusual_requests_are_served(service: Service, way: str) -> None:
    text = "x" * (MAX_BODY - 200) if way == "16 MB in pieces" else "x" * 100
    body = f'{{"session_id": "ways", "interaction_id": "{way}", "prompt": "{text}"}}'.encode()
    head = f"{HEAD}Content-Length: {len(body)}\r\n"
    with connect(service) as client, client.makefile("rb") as answers:
        match way:
            case "chunks":
                pieces = [f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()]
                pieces += [b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:50], body[50:], b"")]
            case "expect":
                client.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
                assert answers.readline().split()[1] == b"100"
                assert answers.readline() == b"\r\n"
                pieces = [body]
            case "a byte at a time":
                pieces = [bytes([byte]) for byte in f"{head}\r\n".encode() + body]
            case _:
                pieces = [f"{head}\r\n".encode(), *(body[at : at + 100_000] for at in range(0, len(body), 100_000))]
        for piece in pieces:
            client.sendall(piece)
            time.sleep(0.001)  # so that they arrive apart
        assert answers.readline().split()[1] == b"201"


def test_pipelined_requests_are_answered_in_their_order(service: Service) -> None:
    with connect(service) as client:
        client.sendall(WITH_LENGTH + BODY + GET % b"/livez" + GET % b"/nowhere" + LAST)
        assert statuses(client) == [201, 200, 404, 200]


@pytest.mark.parametrize("size", [10, MAX_BODY + 10], ids=["refused", "too large"])
def test_an_answer_leaves_nothing_of_the_body_on_the_connection(service: Service, size: int) -> None:
    refused = f"{HEAD.replace('interactions', 'nowhere')}Content-Length: {size}\r\n\r\n".encode() + b"x" * size
    with connect(service) as client:
        client.sendall(refused + LAST)
        assert statuses(client) == [404, 200]


def test_a_request_cut_short_is_not_served(service: Service) -> None:
    session = f"{HEAD.replace('interactions', 'sessions')}Content-Length: 100\r\n\r\n".encode()
    before = sessions(service)
    with connect(service) as client:
        client.sendall(session)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    assert sessions(service) == before


def test_a_broken_chunk_is_the_clients_mistake(service: Service) -> None:
    with connect(service) as client, client.makefile("rb") as answers:
        client.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\nfour\r\n".encode())
        assert answers.readline().split()[1] == b"400"


def test_time_is_earned_by_going_on_and_not_saved_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_clients, "CLIENT_TIMEOUT_S", 2.0)
    pieces, apart_s, piece = 10, 0.3, b"x" * 4 * MIN_BYTES_PER_S
    ours, theirs = socket.socketpair()

    def send() -> None:
        for _ in range(pieces):
            theirs.sendall(piece)
            time.sleep(apart_s)

    with theirs, PacedSocket(ours.family, ours.type, ours.proto, fileno=ours.detach()) as paced:
        begun = time.monotonic()
        paced.restart_timeout()
        sending = threading.Thread(target=send)
        sending.start()
        received: list[bytes] = []
        with pytest.raises(ClientTooSlow):
            received.extend(iter(lambda: paced.recv(MIN_BYTES_PER_S), b""))
        sending.join()
    assert len(b"".join(received)) == pieces * len(piece)
    assert time.monotonic() - begun < pieces * 4 / 2  # it had earned twice as much


@pytest.mark.parametrize("served", [False, True], ids=["silent", "served"])
def test_an_idle_connection_holds_up_no_stop(served: bool) -> None:
    # as a browser keeps some; gunicorn would look at them again only when its time for a stop is over
    with launch({}, workers=1) as service:
        service.wait_until_ready()
        client = http.client.HTTPConnection("127.0.0.1", urlsplit(service.url).port, timeout=CUT_OFF_S)
        client.connect()
        if served:
            client.request("GET", "/livez")
            client.getresponse().read()
        time.sleep(0.5)  # the worker has accepted it
        service.process.terminate()
        client.sock.settimeout(2.5 * slow_clients.CLIENT_TIMEOUT_S)
        assert client.sock.recv(1) == b""
        client.close()


def connect(service: Service) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # so that little of an answer is taken unread
    client.settimeout(CUT_OFF_S)
    client.connect(("127.0.0.1", urlsplit(service.url).port))
    return client


def assert_others_are_served(service: Service) -> None:
    with httpx.Client(base_url=service.url, timeout=ANSWERED_S) as kept:
        for number in range(HEALTHY_CALLS):
            turn = {"session_id": "healthy", "interaction_id": f"turn-{number}", "prompt": "Still there?"}
            post = kept.post if number % 2 else httpx.post
            url = "/v1/interactions" if number % 2 else f"{service.url}/v1/interactions"
            assert post(url, json=turn, timeout=ANSWERED_S).is_success


def assert_cut_off(service: Service, clients: list[socket.socket]) -> None:
    # asked of the service, since a client that doesn't read doesn't notice
    ports = {client.getsockname()[1] for client in clients}
    give_up = time.monotonic() + CUT_OFF_S
    while held := ports & held_by(service):
        assert time.monotonic() < give_up, f"{len(held)} slow clients are still connected"
        time.sleep(0.2)


def held_by(service: Service) -> set[int]:
    connections = [each for worker in service.workers() for each in worker.net_connections("tcp")]
    return {connection.raddr.port for connection in connections if connection.raddr}


def statuses(client: socket.socket) -> list[int]:
    """Return the status of each answer until the service hangs up."""
    answers = b"".join(iter(lambda: client.recv(65536), b""))
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", answers)]


def sessions(service: Service) -> int:
    return len(httpx.get(f"{service.url}/v1/sessions", timeout=CUT_OFF_S).json()["sessions"])
