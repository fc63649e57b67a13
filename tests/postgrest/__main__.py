"""Runs the stand-in as a process of its own, so that its work doesn't count as its client's.

It prints one line, its URL, when it is ready; SIGTERM and SIGINT end it.
"""

import argparse
import signal
import sys
import threading

from tests.postgrest.standin import DEFAULT_SECRET, PostgrestStandIn


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.postgrest", description="A PostgREST stand-in.")
    parser.add_argument("--dsn", required=True, help="Postgres, as the role that plays authenticator")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--secret", default=DEFAULT_SECRET, help="signs the JWTs (HS256)")
    parser.add_argument("--pool-size", type=int, default=10)
    parser.add_argument("--latency-ms", type=float, default=0.0, help="added to each request")
    options = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with PostgrestStandIn(
        options.dsn,
        port=options.port,
        secret=options.secret,
        pool_size=options.pool_size,
        latency_s=options.latency_ms / 1000,
    ) as standin:
        sys.stdout.write(f"{standin.url}\n")
        sys.stdout.flush()
        stop.wait()


if __name__ == "__main__":
    main()
