"""Load at a fixed rate, whatever the service does meanwhile: the open loop for measuring latencies.

    python -m bench.paced URL FILE --rate 400 [--clients 32] [--seconds 5]

Each request has a time at which it is due, and its latency counts from then on. A loop that sends when the last answer
is there stops asking while the service stalls, and so leaves out the very requests that would have waited.
"""

import argparse
import gc
import itertools
import json
import selectors
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.loader import Connection, Tally, percentile, requests


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.paced")
    parser.add_argument("url")
    parser.add_argument("file", type=Path)
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    gc.disable()  # a pause here would be counted as the service's
    measured = measure(options.url, options.file, options.clients, options.rate, options.seconds)
    sys.stdout.write(json.dumps(measured) + "\n")


def measure(url: str, file: Path, clients: int, rate: float, seconds: float) -> dict[str, Any]:
    """Post at this rate for so long; `late_ms` is the 99th percentile of how long after its time a request was sent."""
    where = urlsplit(url)
    posted = list(itertools.islice(requests(where, file), int(rate * seconds)))
    tally = Tally()
    late: list[float] = []
    # in turn, so that none of them idles until the service closes it
    idle = deque(Connection(where) for _ in range(clients))
    # epoll's timeout is whole milliseconds
    with selectors.SelectSelector() as selector:
        begun = time.perf_counter()
        due = deque(begun + n / rate for n in range(len(posted)))
        while due or selector.get_map():
            now = time.perf_counter()
            while due and idle and due[0] <= now:
                connection, since = idle.popleft(), due.popleft()
                late.append(now - since)
                connection.send(posted[len(late) - 1], since)
                selector.register(connection.socket, selectors.EVENT_READ, connection)
            wait_s = max(0.0, due[0] - time.perf_counter()) if due and idle else None
            for key, _ in selector.select(wait_s):
                if answer := key.data.receive():
                    tally.count(*answer)
                    selector.unregister(key.data.socket)
                    idle.append(key.data)
        took = time.perf_counter() - begun
    for connection in idle:
        tally.close(connection)
    return {**tally.result(took), "late_ms": percentile(late, 99) * 1e3}


if __name__ == "__main__":
    main()
