"""The benchmark's own instruments: they would go wrong without anybody noticing."""

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import loader, paced
from bench.findings import Figure

STALL_S = 0.6


class StallsAtFirst(http.server.BaseHTTPRequestHandler):
    """Answers at once, except that nothing is answered in the first moments."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    answers_from = 0.0
    bodies: list[bytes]

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(max(0.0, self.answers_from - time.monotonic()))
        self.send_response(201 if len(self.bodies) % 2 else 202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass


@pytest.fixture
def url() -> Iterator[str]:
    StallsAtFirst.answers_from = time.monotonic() + STALL_S
    StallsAtFirst.bodies = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), StallsAtFirst) as server:
        server.daemon_threads = False  # so that closing waits for them
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/log"
        server.shutdown()
        thread.join()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "bodies.jsonl"
    path.write_text("".join(f'{{"n": {n}}}\n' for n in range(1000)))
    return path


def test_whoever_was_due_while_the_service_stalled_has_waited(url: str, file: Path) -> None:
    done = paced.measure(url, file, clients=4, rate=100, seconds=1)
    assert done["answers"] == 100
    # more than half were due during the stall, though only four could be sent
    assert done["p50_ms"] > 50
    assert done["p99_ms"] > STALL_S * 900
    assert sum(done["by_port"].values()) == 100


def test_each_line_is_posted_once_and_counted_with_its_connection(url: str, file: Path) -> None:
    done = loader.measure(url, file, clients=4, seconds=None)
    assert sorted(StallsAtFirst.bodies) == sorted(file.read_bytes().splitlines())
    assert (done["answers"], done["errors"], len(done["by_port"])) == (1000, 0, 4)
    assert sum(done["by_port"].values()) == 1000
    assert done["spooled"] > 0


@pytest.mark.parametrize(
    ("measured", "at_most", "verdict"),
    [
        (1.4, False, "missed"),
        (1.5, False, "aim"),
        (2.0, False, "stretch"),
        (0.6, True, "stretch"),
        (2.1, True, "missed"),
    ],
)
def test_a_figure_says_what_it_reached(*, measured: float, at_most: bool, verdict: str) -> None:
    aim, stretch = (2.0, 1.5) if at_most else (1.5, 2.0)
    assert Figure("", "", [measured], aim, stretch, at_most=at_most).verdict == verdict


def test_a_figure_is_the_median_of_its_rounds() -> None:
    assert Figure("", "", [9.0, 1.0, 2.0]).measured == 2.0
