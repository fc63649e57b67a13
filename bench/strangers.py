"""Measures what anybody without a key can make the service do: processor time of the worst requests, by route.

    python -m bench.strangers [--times 3] [--over 2] [--paths /sign-in,/livez]

It starts a service, sends each route each kind of request below, and prints the worst kind of each route in
milliseconds of its processes' processor time: user and system, the smallest of several times, database included.
"""

import argparse
import gzip
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil
from flask import Flask
from rich import box
from rich.console import Console
from rich.table import Table

from app import create_app
from conversation.settings import Settings
from logging_store.embedded.server import EmbeddedPostgres
from tests import guardian
from tests.service import launch

AIM_MS = 20.0
_MEGABYTES = 16  # that a hostile body has on the wire
_FIELD = 8000  # bytes of a hostile header: gunicorn takes 8,190
_TIMEOUT_S = 20
#: A body is read before the route is looked at; these stand for all. Forms have bounds of their own on pages.
_WITH_BODIES = {
    ("GET", "/livez"),
    ("POST", "/sign-in"),
    ("POST", "/sign-in/user"),
    ("POST", "/sessions/name/feedback"),
    ("POST", "/v1/interactions"),
    ("POST", "/no/such/route"),
}
_SETTLE_S = 0.02  # the answer is sent before its thread is done


class Kind(NamedTuple):
    """A kind of request. `query` and `path` are added to the route's; `body` is sent as it is, behind `headers`."""

    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    query: str = ""
    path: str = ""
    host: str = "127.0.0.1"


class Cost(NamedTuple):
    kind: str
    ms: float
    status: str


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.strangers", description=__doc__)
    parser.add_argument("--times", type=int, default=3, help="that each request is sent; the cheapest counts")
    parser.add_argument("--over", type=float, default=0.0, help="also list every kind that took more milliseconds")
    parser.add_argument("--paths", type=lambda text: text.split(","), help="only these, as in the table; else all")
    arguments = parser.parse_args()
    began_at = os.getloadavg()[0]
    with guardian.folder() as folder:
        server = EmbeddedPostgres(folder)
        server.start()
        try:
            settings = {"DATABASE_URL": server.conninfo(), "TURNLOG_API_KEY": secrets.token_urlsafe(32)}
            with launch(settings, workers=1) as service:
                service.wait_until_ready()
                database = psutil.Process(server_pid(server))
                processes = [*service.workers(), database, *database.children(recursive=True)]
                app = create_app(Settings.from_mapping(settings))
                costs = measure(service.url, processes, app, arguments.times, arguments.paths)
        finally:
            server.stop()
    _print(costs, arguments.over, began_at)
    return int(any(cost.ms > AIM_MS for found in costs.values() for cost in found))


def server_pid(server: EmbeddedPostgres) -> int:
    return int((server.cluster / "postmaster.pid").read_text().split("\n", 1)[0])


def measure(
    url: str, processes: list[psutil.Process], app: Flask, times: int, paths: Sequence[str] | None = None
) -> dict[str, list[Cost]]:
    """Return what each kind of request costs on each route."""
    costs: dict[str, list[Cost]] = {}
    of_all = kinds()
    for method, path in [
        *routes(app),
        ("OPTIONS", "/v1/sessions"),
        ("GET", "/no/such/route"),
        ("POST", "/no/such/route"),
    ]:
        if paths is not None and path not in paths:
            continue
        found = []
        for name, kind in of_all.items():
            if kind.body and (method, path) not in _WITH_BODIES:
                continue
            samples = [_cost_ms(url, processes, method, path, kind) for _ in range(times)]
            found.append(Cost(name, min(ms for ms, _ in samples), samples[0][1]))
        costs[f"{method} {path}"] = sorted(found, key=lambda cost: -cost.ms)
    return costs


def routes(app: Flask) -> Iterator[tuple[str, str]]:
    """Yield method and path of each route, with something in the place of each name."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        path = rule.rule.replace("<int:number>", "1").replace("<uuid:key>", "00000000-0000-4000-8000-000000000001")
        path = path.replace("<path:filename>", "turnlog.css" if "pages" in path else "css/bootstrap.min.css")
        path = path.replace("<path:path>", "swagger-ui.css")
        while "<" in path:
            begin, _, rest = path.partition("<")
            path = begin + "name" + rest.partition(">")[2]
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield method, path


def kinds() -> Mapping[str, Kind]:
    size = _MEGABYTES << 20
    form = "application/x-www-form-urlencoded"
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
    small_form = b"=&" * 8000
    return {
        "plain": Kind(),
        "a key of 8 KB": Kind(_bearer("turnlog_sk_" + "a" * _FIELD)),
        "a token of 8 KB": Kind(_bearer(f"{'e' * (_FIELD // 2)}.{'e' * (_FIELD // 2 - 9)}.e")),
        "cookies": _headers("Cookie", "a=1;" * (_FIELD // 4)),
        "accepts": _headers("Accept", "a/b;q=0.1," * (_FIELD // 10)),
        "etags": _headers("If-None-Match", '"a",' * (_FIELD // 4)),
        "ranges": _headers("Range", "bytes=" + "0-0," * (_FIELD // 4)),
        "proxies": _headers("X-Forwarded-For", "1.1.1.1," * (_FIELD // 8)),
        "headers": Kind(tuple((f"X-{n}", "a" * _FIELD) for n in range(96))),
        "small headers": Kind(tuple((f"X-{n}", "a") for n in range(96))),
        "an origin of 8 KB": Kind((("Origin", "https://" + "a." * (_FIELD // 2)),)),
        "a preflight": Kind(
            (("Origin", "https://" + "a." * (_FIELD // 2)), ("Access-Control-Request-Method", "POST" * 1000))
        ),
        "a host of 8 KB": Kind(host="a." * (_FIELD // 2)),
        "a host with xn--": Kind(host="xn--" + "a" * 4000 + "." + "xn--a." * 600),
        "a query": Kind(query="a&" * 1900),
        "a query of %": Kind(query="%41=" * 900),
        "a path of slashes": Kind(path="/" * 3800),
        "a path of names": Kind(path="/a" * 1900),
        "a long path": Kind(path="/" + "interactoins" * 300),
        "a path of %": Kind(path="%2f" * 1200),
        "a form": _body(form, b"=&" * (size // 2)),
        "a form in chunks": _chunked(form, b"=&" * (1 << 22), 1 << 16),
        "a form of 16 KB": _body(form, small_form),
        "a form of parts": _body("multipart/form-data; boundary=x", part * (size // len(part)) + b"--x--\r\n"),
        "a form of parts, 16 KB": _body("multipart/form-data; boundary=x", part * (16_000 // len(part)) + b"--x--\r\n"),
        "16 MB": _body("application/json", b"[" * size),
        "64 MB": _body("application/json", b" " * (4 * size)),
        "16 MB of gzip": _body("application/json", secrets.token_bytes(size), ("Content-Encoding", "gzip")),
        "gzip of 16 MB": _body("application/json", gzip.compress(b" " * size), ("Content-Encoding", "gzip")),
        "chunks of a byte": _chunked("application/json", b" " * (size // 6), 1),
        "a chunk's extension": Kind(
            (("Transfer-Encoding", "chunked"),), b"1;" + b"a" * size + b"\r\n \r\n0\r\n\r\n"
        ),
        "trailers": Kind(
            (("Transfer-Encoding", "chunked"),), b"0\r\n" + b"a: b\r\n" * (size // 6) + b"\r\n"
        ),
    }  # fmt: skip


def _bearer(text: str) -> tuple[tuple[str, str], ...]:
    return (("Authorization", f"Bearer {text}"),)


def _headers(name: str, value: str) -> Kind:
    return Kind(((name, value),) * 3 + ((name, value[:6000]),))


def _body(mimetype: str, body: bytes, *more: tuple[str, str]) -> Kind:
    return Kind((("Content-Type", mimetype), ("Content-Length", str(len(body))), *more), body)


def _chunked(mimetype: str, body: bytes, size: int) -> Kind:
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    sent = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return Kind((("Content-Type", mimetype), ("Transfer-Encoding", "chunked")), sent + b"0\r\n\r\n")


def _cost_ms(url: str, processes: list[psutil.Process], method: str, path: str, kind: Kind) -> tuple[float, str]:
    """Send a request; return the processor time that it took, and how it was answered."""
    target = (path.rstrip("/") + kind.path if kind.path else path) + (f"?{kind.query}" if kind.query else "")
    site = (("Sec-Fetch-Site", "same-origin"), ("Connection", "close"), *kind.headers)
    head = f"{method} {target} HTTP/1.1\r\nHost: {kind.host}\r\n" + "".join(f"{n}: {v}\r\n" for n, v in site)
    address = urlsplit(url)
    before = _used_ms(processes)
    answer = b""
    with socket.create_connection((address.hostname, address.port), _TIMEOUT_S) as client:
        with suppress(OSError):
            client.sendall(head.encode() + b"\r\n" + kind.body)
        with suppress(OSError):
            while piece := client.recv(1 << 16):
                answer = answer or piece[:12]
    time.sleep(_SETTLE_S)
    return _used_ms(processes) - before, answer[9:12].decode() or "none"


def _used_ms(processes: list[psutil.Process]) -> float:
    # the clock of a process's threads together, in nanoseconds: what /proc/<pid>/stat has is in hundredths of a second
    used = 0
    for process in processes:
        with suppress(OSError):
            used += time.clock_gettime_ns((~process.pid << 3) | 2)
    return used / 1e6


def _print(costs: Mapping[str, list[Cost]], over_ms: float, began_at: float) -> None:
    drawn = Table(box=box.SIMPLE_HEAD)
    for heading in ("route", "the most expensive", "status", "ms", "plain ms"):
        drawn.add_column(heading, justify="right" if heading.endswith("ms") else "left", no_wrap=True)
    for route, found in sorted(costs.items(), key=lambda item: -item[1][0].ms):
        plain = next(cost.ms for cost in found if cost.kind == "plain")
        shown = [cost for cost in found[1:] if over_ms and cost.ms > over_ms]
        for n, cost in enumerate((found[0], *shown)):
            style = "red" if cost.ms > AIM_MS else ""
            drawn.add_row("" if n else route, cost.kind, cost.status, f"{cost.ms:.1f}", f"{plain:.1f}", style=style)
    console = Console() if sys.stdout.isatty() else Console(width=150)
    console.print(drawn)
    console.print(f"Load average from {began_at:.1f} to {os.getloadavg()[0]:.1f}.", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
