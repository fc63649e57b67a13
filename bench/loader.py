"""A load generator for machines without wrk: one thread, many kept connections.

    python -m bench.loader URL FILE [--clients 32] [--seconds 5]

Posts each line of FILE once and prints what was measured as a line of JSON, like bench/load.lua.
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
from urllib.parse import urlsplit


class Connection:
    """One kept connection: a request, its whole answer, the next request."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()
        self._sent_at = 0.0

    def send(self, request: bytes) -> None:
        self._received.clear()
        self._sent_at = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> tuple[int, float] | None:
        """Return the answer's status and its latency in seconds, or None while part of it is missing."""
        if not (part := self.socket.recv(1 << 18)):
            raise ConnectionError("the service closed a kept connection")
        self._received += part
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return None
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(body) < length:
            return None
        return int(head[9:12]), time.perf_counter() - self._sent_at


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.loader")
    parser.add_argument("url")
    parser.add_argument("file", type=Path)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    sys.stdout.write(json.dumps(measure(options.url, options.file, options.clients, options.seconds)) + "\n")


def measure(url: str, file: Path, clients: int, seconds: float) -> dict[str, float]:
    """Post for so long. Answers under way at the end are waited for and counted."""
    where = urlsplit(url)
    host, port = where.hostname or "127.0.0.1", where.port or 80
    requests = _requests(where.path, f"{host}:{port}", file)
    latencies: list[float] = []
    errors = 0
    with selectors.DefaultSelector() as selector:
        begun = time.perf_counter()
        for _ in range(clients):
            connection = Connection(host, port)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send(next(requests))
        while selector.get_map():
            for key, _ in selector.select():
                connection = key.data
                if (answer := connection.receive()) is None:
                    continue
                status, latency = answer
                latencies.append(latency)
                errors += status >= 400
                if time.perf_counter() - begun < seconds:
                    connection.send(next(requests))
                else:
                    selector.unregister(connection.socket)
                    connection.socket.close()
        took = time.perf_counter() - begun
    latencies.sort()
    return {
        "answers": len(latencies) - errors,
        "seconds": took,
        "p50_ms": latencies[len(latencies) // 2] * 1e3,
        "p99_ms": latencies[len(latencies) * 99 // 100] * 1e3,
        "errors": errors,
    }


def _requests(path: str, host: str, file: Path) -> Iterator[bytes]:
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: "
    for _ in itertools.count():
        with file.open("rb") as lines:
            for line in lines:
                body = line.rstrip(b"\n")
                yield b"%s%d\r\n\r\n%s" % (head.encode(), len(body), body)


if __name__ == "__main__":
    main()
