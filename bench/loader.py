"""A load generator for machines without wrk: one thread, many persistent connections.

    python -m bench.loader URL FILE [--clients 32] [--seconds 5 | --once]

Posts the lines of FILE and prints what was measured as a line of JSON, like bench/load.lua.
"""

import argparse
import itertools
import json
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

_ACCEPTED = 202  # in the service's spool, not in the database yet


class Connection:
    """One persistent connection: a request, its whole answer, the next request."""

    def __init__(self, where: SplitResult) -> None:
        self.socket = socket.create_connection((where.hostname or "127.0.0.1", where.port or 80))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port: int = self.socket.getsockname()[1]
        self.answers = 0
        self._received = bytearray()
        self._since = 0.0

    def send(self, request: bytes, since: float | None = None) -> None:
        """Send a request. Its latency counts from now, or from `since` if it should have been sent then."""
        self._received.clear()
        self._since = time.perf_counter() if since is None else since
        self.socket.sendall(request)

    def receive(self) -> tuple[int, float] | None:
        """Return the answer's status and its latency in seconds, or None while part of it is missing."""
        if not (part := self.socket.recv(1 << 18)):
            raise ConnectionError("the service closed a persistent connection")
        self._received += part
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return None
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(body) < length:
            return None
        self.answers += 1
        return int(head[9:12]), time.perf_counter() - self._since


class Tally:
    """What came back, on which connections."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.errors = 0
        self.spooled = 0
        self.by_port: dict[int, int] = {}

    def count(self, status: int, latency: float) -> None:
        self.latencies.append(latency)
        self.errors += status >= 400
        self.spooled += status == _ACCEPTED

    def close(self, connection: Connection) -> None:
        self.by_port[connection.port] = connection.answers
        connection.socket.close()

    def result(self, seconds: float) -> dict[str, Any]:
        return {
            "answers": len(self.latencies) - self.errors,
            "seconds": seconds,
            "p50_ms": percentile(self.latencies, 50) * 1e3,
            "p99_ms": percentile(self.latencies, 99) * 1e3,
            "errors": self.errors,
            "spooled": self.spooled,
            "by_port": self.by_port,
        }


def percentile(values: list[float], percent: int) -> float:
    """Return the value that so many percent are below; 0 of nothing."""
    return sorted(values)[len(values) * percent // 100] if values else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.loader")
    parser.add_argument("url")
    parser.add_argument("file", type=Path)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--once", action="store_true", help="post each line once, however long that takes")
    options = parser.parse_args()
    seconds = None if options.once else options.seconds
    sys.stdout.write(json.dumps(measure(options.url, options.file, options.clients, seconds)) + "\n")


def measure(url: str, file: Path, clients: int, seconds: float | None) -> dict[str, Any]:
    """Post for so long, or each line once. Answers under way at the end are waited for and counted."""
    where = urlsplit(url)
    posted = requests(where, file)
    if seconds is not None:  # from the start again; where that is wrong, the rows stored are fewer than the answers
        posted = itertools.chain(
            posted, itertools.chain.from_iterable(requests(where, file) for _ in itertools.count())
        )
    tally = Tally()
    with selectors.DefaultSelector() as selector:
        begun = time.perf_counter()
        for request in itertools.islice(posted, clients):
            connection = Connection(where)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send(request)
        while selector.get_map():
            for key, _ in selector.select():
                connection = key.data
                if (answer := connection.receive()) is None:
                    continue
                tally.count(*answer)
                goes_on = seconds is None or time.perf_counter() - begun < seconds
                if goes_on and (request := next(posted, b"")):
                    connection.send(request)
                else:
                    selector.unregister(connection.socket)
                    tally.close(connection)
        return tally.result(time.perf_counter() - begun)


def requests(where: SplitResult, file: Path) -> Iterator[bytes]:
    """Yield a request for each line of the file."""
    head = (
        f"POST {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\nContent-Length: "
    ).encode()
    with file.open("rb") as lines:
        for line in lines:
            body = line.rstrip(b"\n")
            yield b"%s%d\r\n\r\n%s" % (head, len(body), body)


if __name__ == "__main__":
    main()
