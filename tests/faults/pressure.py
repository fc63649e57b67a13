"""What others do to a service while somebody logs: heavy reads, connections that say nothing or half, reloads.

    python -m tests.faults.pressure [--only searches,reloads] [--seconds 8] [--url http://… --key KEY]

Prints how long writes take when nothing else happens and under each kind of pressure. Without `--url` it starts a
service with a database of its own; with it, it asks what is there (a proxy in front of a service, for instance), and
reloads nothing.
"""

import argparse
import http.client
import json
import multiprocessing
import os
import random
import selectors
import signal
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from typing import Any, Self, cast
from urllib.parse import urlsplit

import psutil

from tests.service import Service, launch

PATIENCE_S = 60.0
USER = "pressure"
SEARCH = "/v1/interactions?q=a+e+r&order=match&limit=100"
EXPORT = f"/v1/users/{USER}/export"
_WORDS = ["the", "answer", "to", "a", "question", "is", "rarely", "where", "one", "looks", "for", "it", "again"]
_BATCH = 1000
_PAUSE_S = 0.1  # after a refusal that names no time


@dataclass
class Answers:
    """What writers got: seconds of each call, statuses and receipts; `lost`: calls that got no answer."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    receipts: Counter[str] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)  # of what was acknowledged
    lost: list[str] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


class Writers:
    """Threads that log single interactions, half of them over kept connections, the others over a new one each."""

    def __init__(self, url: str, key: str | None = None, *, count: int = 8, pause_s: float = 0.08) -> None:
        self._url, self._key, self._pause_s = urlsplit(url), key, pause_s
        self.answers = Answers()
        self._lock, self._end = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._run, args=[n % 2 == 0]) for n in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, calls: int) -> None:
        """Return when so many more calls have ended."""
        enough, give_up = self._ended() + calls, time.monotonic() + PATIENCE_S
        while self._ended() < enough:
            assert time.monotonic() < give_up, f"writes don't get on: {self.answers.statuses}, {self.answers.lost[:3]}"
            time.sleep(0.02)

    def _ended(self) -> int:
        return len(self.answers.seconds) + len(self.answers.lost)

    def _run(self, is_kept: bool) -> None:
        client, dice = connection(self._url), random.Random()
        while not self._end.wait(self._pause_s * 2 * dice.random()):
            name, began = str(uuid.uuid4()), time.perf_counter()
            turn = {"session_id": f"writer-{threading.get_ident()}", "interaction_id": name, "prompt": "Are you there?"}
            try:
                status, body = call(client, "POST", "/v1/interactions", self._key, turn)
            except (OSError, http.client.HTTPException) as error:
                client.close()
                with self._lock:
                    self.answers.lost.append(f"{'kept' if is_kept else 'new'} connection: {error!r}")
                continue
            took = time.perf_counter() - began
            receipt = json.loads(body).get("receipt", "none") if status < 500 else "none"
            with self._lock:
                self.answers.seconds.append(took)
                self.answers.statuses[status] += 1
                self.answers.receipts[receipt] += 1
                if status < 300:
                    self.answers.ids.append(name)
            if not is_kept:
                client.close()
        client.close()


def connection(where: Any) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(where.hostname, where.port, timeout=PATIENCE_S)


def call(
    client: http.client.HTTPConnection, method: str, path: str, key: str | None, body: Any = None
) -> tuple[int, bytes]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    client.request(method, path, None if body is None else json.dumps(body), headers)
    answer = client.getresponse()
    return answer.status, answer.read()


def fill(url: str, key: str | None, interactions: int) -> None:
    """Store interactions of one user, in batches."""
    dice, client = random.Random(1), connection(urlsplit(url))
    for start in range(0, interactions, _BATCH):
        size = min(_BATCH, interactions - start)
        sessions = sorted({f"filled-{(start + n) // 200}" for n in range(size)})
        for session in sessions:
            status, answer = call(client, "POST", "/v1/sessions", key, {"session_id": session, "user_id": USER})
            assert status < 300, (status, answer[:300])
        said = [
            {
                "session_id": f"filled-{(start + n) // 200}", "interaction_id": f"filled-{start + n}",
                "prompt": " ".join(dice.choices(_WORDS, k=20)), "response": " ".join(dice.choices(_WORDS, k=60)),
            }
            for n in range(size)
        ]  # fmt: skip
        status, answer = call(client, "POST", "/v1/interactions/batch", key, {"interactions": said})
        assert set(json.loads(answer)["counts"]) <= {"created", "duplicate"}, (status, answer[:300])
    client.close()


Seen = Counter[str]


def read(url: str, key: str | None, path: str, count: int, end: Event) -> Seen:
    """Read a path over so many connections at once, and wait as long as a refusal says."""
    seen: Seen = Counter()

    def ask() -> None:
        client = connection(urlsplit(url))
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        while not end.is_set():
            try:
                client.request("GET", path, headers=headers)
                answer = client.getresponse()
                while not end.is_set() and answer.read(65536):
                    pass
            except (OSError, http.client.HTTPException) as error:
                seen[type(error).__name__] += 1
                client.close()
                end.wait(_PAUSE_S)
                continue
            wait = answer.getheader("Retry-After")
            seen[f"{answer.status}{' without Retry-After' if answer.status in {429, 503} and not wait else ''}"] += 1
            if answer.status != 200:
                end.wait(float(wait or _PAUSE_S))
        client.close()

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


def hold(url: str, sent: bytes, count: int, end: Event) -> Seen:
    """Hold so many connections on which nothing follows what was sent; one that is closed is opened again."""
    where, seen = urlsplit(url), Counter[str]()
    with selectors.DefaultSelector() as held, ExitStack() as closing:
        while not end.is_set():
            while len(held.get_map()) < count and not end.is_set():
                client = socket.socket()
                client.setblocking(False)
                with suppress(BlockingIOError):
                    client.connect((where.hostname, where.port))
                held.register(client, selectors.EVENT_READ | (selectors.EVENT_WRITE if sent else 0))
                closing.callback(client.close)
                seen["opened"] += 1
                if not seen["opened"] % 50:
                    break
            for key, events in held.select(0.02):
                client = cast("socket.socket", key.fileobj)
                try:
                    if events & selectors.EVENT_WRITE:
                        client.sendall(sent)
                        held.modify(client, selectors.EVENT_READ)
                        continue
                    is_over = not client.recv(4096)
                except OSError:
                    is_over = True
                if is_over:
                    held.unregister(client)
                    client.close()
                    seen["closed"] += 1
    return seen


HEAD = b"POST /v1/interactions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
KINDS: dict[str, Callable[[str, str | None, Event], Seen]] = {
    "searches": lambda url, key, end: read(url, key, SEARCH, 64, end),
    "exports": lambda url, key, end: read(url, key, EXPORT, 16, end),
    "half_open": lambda url, _, end: hold(url, b"", 2500, end),
    "half_heads": lambda url, _, end: hold(url, HEAD, 600, end),
    "half_bodies": lambda url, _, end: hold(url, HEAD + b'Content-Length: 1000\r\n\r\n{"session_id"', 600, end),
    "half_uploads": lambda url, _, end: hold(url, HEAD + b'Content-Length: 1000000\r\n\r\n{"session_id"', 600, end),
}


def _press(kind: str, url: str, key: str | None, begun: Event, end: Event, results: Any) -> None:  # noqa: PLR0917
    begun.set()  # a new process imports for a while
    results.put(KINDS[kind](url, key, end))


@contextmanager
def pressed(kind: str, url: str, key: str | None = None) -> Iterator[Seen]:
    """Press from a process of its own, so that its threads take no time from the writers'; fills what was seen."""
    context = multiprocessing.get_context("spawn")
    begun, end, results, seen = context.Event(), context.Event(), context.Queue(), Counter[str]()
    process = context.Process(target=_press, args=[kind, url, key, begun, end, results], daemon=True)
    process.start()
    try:
        assert begun.wait(PATIENCE_S)
        yield seen
    finally:
        end.set()
        seen.update(results.get(timeout=PATIENCE_S))
        process.join(PATIENCE_S)


@contextmanager
def reloading(service: Service, pause_s: float = 1.0) -> Iterator[Seen]:
    """Reload again and again, each time when the last reload's old workers have ended."""
    end, seen = threading.Event(), Counter[str]()

    def reload() -> None:
        while not end.wait(pause_s):
            old = service.workers()
            service.process.send_signal(signal.SIGHUP)
            psutil.wait_procs(old, PATIENCE_S)
            seen["reloads"] += 1

    thread = threading.Thread(target=reload)
    thread.start()
    try:
        yield seen
    finally:
        end.set()
        thread.join()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.pressure", description="Press, and time writes.")
    parser.add_argument("--only", default=",".join(["quiet", *KINDS, "reloads"]))
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rows", type=int, default=60_000, help="that searches and exports read")
    parser.add_argument("--url", help="of a service that runs, or of the proxy in front of it")
    parser.add_argument("--key", help="a key of that service with the scopes log and read")
    options = parser.parse_args()
    with ExitStack() as stack:
        service = None
        url = options.url
        if url is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="turnlog-pressure-"))
            service = stack.enter_context(launch({"DATA_DIR": folder}))
            service.wait_until_ready()
            url = service.url
        fill(url, options.key, options.rows)
        quiet = 0.0
        for kind in options.only.split(","):
            answers, seen, cpu = _measure(
                kind, url, options.key, service, options.seconds * (2 if kind == "reloads" else 1)
            )
            p50, p99 = answers.percentile(0.5), answers.percentile(0.99)
            quiet = quiet or p99
            print(  # noqa: T201 - a command's output
                f"{kind:12} writes {len(answers.seconds):5}  p50 {p50 * 1e3:7.1f}  p99 {p99 * 1e3:7.1f} ms "
                f"({p99 / quiet:5.1f}x)  max {max(answers.seconds, default=0) * 1e3:7.0f}  "
                f"spooled {answers.receipts['spooled']}  lost {len(answers.lost)}  {dict(answers.statuses)}  "
                f"service {cpu:.1f} s of CPU  load {os.getloadavg()[0]:.1f}  others: {dict(seen)}",
                flush=True,
            )
            for lost, times in Counter(answers.lost).most_common(3):
                print(f"             lost {times} x {lost}")  # noqa: T201
    return 0


def _measure(
    kind: str, url: str, key: str | None, service: Service | None, seconds: float
) -> tuple[Answers, Seen, float]:
    with ExitStack() as stack:
        seen: Seen = Counter()
        before = _cpu_s(service)
        if kind == "reloads" and service:
            seen = stack.enter_context(reloading(service))
        elif kind in KINDS:
            seen = stack.enter_context(pressed(kind, url, key))
            time.sleep(1.5)  # until it has begun
        with Writers(url, key) as writers:
            time.sleep(seconds)
        used = max(0.0, _cpu_s(service) - before)  # a reload ends what was counted
    time.sleep(1)
    return writers.answers, seen, used


def _cpu_s(service: Service | None) -> float:
    if service is None:
        return 0.0
    used = 0.0
    for process in psutil.Process(service.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used += times.user + times.system
    return used


if __name__ == "__main__":
    sys.exit(main())
