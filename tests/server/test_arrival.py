"""When a request has arrived: the event loop waits for it, not a thread."""

import socket
from collections import deque
from types import SimpleNamespace

import pytest

from conversation.server import arrival
from conversation.server.connection_counts import ConnectionCounts
from conversation.server.succession import Succession
from conversation.server.worker import PacedSocket, Worker

HEAD = b"POST /v1/interactions HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("sent", "state"),
    [
        (b"G", "waits"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", "waits"),
        (b"GET / HTTP/1.1\r\n\r\n", "whole"),
        (b"GET / HTTP/1.1\n\n", "waits"),
        (HEAD + b"Content-Length: 4\r\n\r\nabc", "waits"),
        (HEAD + b"Content-Length: 4\r\n\r\nabcd", "whole"),
        (HEAD + b"content-length:4\r\n\r\nabcdGET /", "whole"),
        (HEAD + b"Content-Length: 0\r\n\r\n", "whole"),
        (HEAD + b"Content-Length: many\r\n\r\n", "whole"),
        (HEAD + b"Content-Length: 1000000\r\n\r\nabc", "served"),
        (HEAD + b"Content-Length: 0000000001000000\r\n\r\nabc", "served"),
        (HEAD + b"Content-Length: 000000000000000000004\r\n\r\nabc", "waits"),
        (HEAD + b"Content-Length: " + b"9" * 40 + b"\r\n\r\nabc", "served"),
        (HEAD + b"X: " + b"x" * 33_000, "served"),
        (HEAD + b"X: " + b"x" * 33_000 + b"\r\n\r\n", "served"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", "served"),
        (HEAD + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n", "served"),
        (b"\x16\x03\x01\x02", "served"),
        (HEAD + b"X: " + b"x" * arrival.MOST, "served"),
    ],
)
def test_a_thread_is_taken_when_the_request_is_there_or_too_large_to_wait_for(sent: bytes, state: str) -> None:
    assert arrival.of(sent) == state


def test_a_connection_that_was_closed_to_make_room_ends_no_worker() -> None:
    ours, theirs = socket.socketpair()
    client = PacedSocket(fileno=ours.detach())
    client.close()
    worker = Worker.__new__(Worker)
    worker.pending_conns = worker.keepalived_conns = deque()  # it was taken out when it was closed
    closed = SimpleNamespace(sock=client)
    for readable in (worker.on_pending_socket_readable, worker.on_client_socket_readable):
        readable(closed, client)
    theirs.close()


def test_an_address_has_only_so_many_connections_and_this_machine_as_many_as_it_likes() -> None:
    counts = ConnectionCounts(most=2)
    taken = [counts.take(("203.0.113.9", port)) for port in range(4)]
    assert [release is not None for release in taken] == [True, True, False, False]
    assert counts.take(("203.0.113.10", 1)) is not None
    assert all(counts.take(("127.0.0.1", port)) for port in range(10))
    assert all(counts.take(b"") for _ in range(10)), "a Unix socket has no address"
    assert taken[0] is not None
    taken[0]()
    assert counts.take(("203.0.113.9", 5)) is not None
    assert counts.take(("203.0.113.9", 6)) is None


def test_the_networks_of_one_customer_are_one_address_and_a_proxys_connections_are_not_counted() -> None:
    counts = ConnectionCounts(most=1)
    assert counts.take(("2001:db8:1:2::1", 1, 0, 0)) is not None
    assert counts.take(("2001:db8:1:2:ffff::9", 1, 0, 0)) is None
    counts.most = None
    assert all(counts.take(("203.0.113.9", port)) for port in range(10))


def test_a_worker_is_awaited_until_one_of_the_next_generation_is_ready() -> None:
    succession = Succession()
    assert not succession.is_awaited(0), "a service that stops waits for nobody"
    succession.begin()
    assert succession.is_awaited(0)
    assert not succession.is_awaited(1)
    succession.announce(1)
    assert not succession.is_awaited(0)
    succession.begin()
    assert succession.is_awaited(0)
    assert succession.is_awaited(1)
