"""Each event is one line of the log, whatever callers send, and no line contains a credential."""

import io
import json
import logging
import re
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from conversation.keys import api_keys
from conversation.refusals import MessageThrottle
from conversation.server.logger import MAX_RECORD, LineFormatter, ThrottleFilter, one_line
from logging_store.errors import StoreError
from tests.service import Service, launch

FORGED = "[2026-11-21 00:00:00 +0000] [1] [INFO] the key turnlog_sk_ was accepted"
LINE_ENDS = ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"]
KEY = api_keys.make("secret")
CHUNKED = "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


def name_of(value: object) -> str:
    """Return a parameter's name in a test's, the same in every run."""
    return str(value).replace(KEY, "KEY").replace(KEY[:15], "KEY")


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Yield what a logger of its own writes through our formatter."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter("[%(levelname)s] %(message)s"))
    logger = logging.getLogger("tests.server_log")
    logger.addHandler(handler)
    logger.propagate = False
    yield stream
    logger.removeHandler(handler)
    logger.propagate = True


@pytest.mark.parametrize("end", LINE_ENDS)
def test_no_text_begins_a_line_of_its_own(written: io.StringIO, end: str) -> None:
    logging.getLogger("tests.server_log").warning("session %s", f"a{end}{FORGED}")
    assert len(written.getvalue().splitlines()) == 1
    assert written.getvalue().startswith("[WARNING] session a\\")


@pytest.mark.parametrize("control", ["\x1b[2J", "\x07", "\x00", "\x7f", "\u202e", "\ud800"])
def test_no_text_moves_a_terminals_cursor_or_breaks_the_stream(control: str) -> None:
    told = one_line(f"a{control}b")
    assert told.isprintable()
    assert told.encode()


@pytest.mark.parametrize("text", ["plain", "Zoë, 日本語 🎈", "C:\\new", "key turnlog_sk_Ab3d…", "a: b = c", ""])
def test_what_is_harmless_is_written_as_it_is(text: str) -> None:
    assert one_line(text) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"no key {KEY}", f"no key {KEY[:15]}…"),
        (f"Authorization: Bearer {KEY}.", f"Authorization: Bearer {KEY[:15]}…."),
        ("Bearer 0123456789abcdef", "Bearer …"),
        ("turnlog_st_eyJrIjoi.aGFzaA-_x sent", "turnlog_st_… sent"),
        ("turnlog_st_.eJyrVsopTVWyUkrOKM3LVtJRys.aGFzaA-_x sent", "turnlog_st_… sent"),
        ("token eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln-_w", "token eyJ…"),
        ("postgresql://ada:s3cr3t@db.example/turnlog", "postgresql://ada:…@db.example/turnlog"),
        ("postgresql://ada:s3@cr3t@db.example/turnlog", "postgresql://ada:…@db.example/turnlog"),
        ("host=db password=s3cr3t dbname=x", "host=db password=… dbname=x"),
        ("{'password': 's3cr3t', 'user': 'ada'}", "{'password': '…', 'user': 'ada'}"),
        ("apikey: sb_secret_0123", "apikey: …"),
    ],
    ids=name_of,
)
def test_what_opens_the_log_is_taken_out(text: str, told: str) -> None:
    assert one_line(text) == told


@pytest.mark.parametrize("said", ["a" * 1_000_000, "\x1b" * 1_000_000, "line\n" * 100_000, "\U0001f388" * 100_000])
def test_no_record_is_longer_than_8_kb(written: io.StringIO, said: str) -> None:
    logging.getLogger("tests.server_log").warning("refused %s", said)
    assert len(written.getvalue().encode()) <= MAX_RECORD + 4


def test_a_deep_stack_is_cut(written: io.StringIO) -> None:
    def dig(depth: int) -> None:
        if depth == 0:
            raise StoreError("deep")
        dig(depth - 1) if depth % 2 else dig_on(depth - 1)

    def dig_on(depth: int) -> None:
        dig(depth)

    try:
        dig(300)
    except StoreError:
        logging.getLogger("tests.server_log").exception("unexpected error")
    assert written.getvalue().startswith("[ERROR] unexpected error\n    | logging_store.errors.StoreError\n")
    assert len(written.getvalue().encode()) <= MAX_RECORD + 4


def fail_because_of(said: str) -> None:
    try:
        int(said)
    except ValueError as error:
        raise StoreError(f"{said}\n{FORGED}") from error


def test_an_unexpected_error_is_told_by_its_way_and_not_by_its_words(written: io.StringIO) -> None:
    said = "my prompt"
    try:
        fail_because_of(said)
    except StoreError:
        logging.getLogger("tests.server_log").exception("unexpected error")
    first, *rest = written.getvalue().splitlines()
    assert first == "[ERROR] unexpected error"
    assert [line for line in rest if not line.startswith("    | ")] == []
    assert "logging_store.errors.StoreError" in rest[0]
    assert any("caused by" in line for line in rest)
    assert any("builtins.ValueError" in line for line in rest)
    assert any("test_server_log.py" in line for line in rest)
    assert said not in written.getvalue()


def test_errors_that_caused_each_other_are_told_once(written: io.StringIO) -> None:
    first, second = ValueError(), TypeError()
    first.__cause__, second.__cause__ = second, first
    logging.getLogger("tests.server_log").error("unexpected error", exc_info=first)
    assert written.getvalue().count("ValueError") == written.getvalue().count("TypeError") == 1


def send_raw(service: Service, request: bytes) -> bytes:
    """Return all that is answered to what may be no request at all."""
    with socket.create_connection(("127.0.0.1", urlsplit(service.url).port or 0), timeout=30) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


@pytest.mark.parametrize("end", ["%0A", "%0D%0A", "%E2%80%A8"])
def test_paths_headers_and_ids_make_no_line_of_the_services_log(database: str, end: str) -> None:
    forged = FORGED.replace(" ", "%20")
    with launch({"DATABASE_URL": database, "GUNICORN_CMD_ARGS": "--access-logfile -"}, workers=1) as service:
        service.wait_until_ready()
        for path in (f"/v1/sessions/a{end}{forged}", f"/v1/sessions?user_id=a{end}{forged}", f"/{end}{forged}"):
            assert b"HTTP/1.1 " in send_raw(service, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        send_raw(service, f"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a\x1b[2J{FORGED}\r\n\r\n".encode())
        log = service.log()
    assert not [line for line in log.splitlines() if line.startswith(FORGED[:29])]
    assert "\x1b" not in log


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization Bearer {KEY}\r\n\r\n", 400),
        (f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer\r\n {KEY}\r\n\r\n", 400),
        (f"GET /{KEY} HTTP/9.1\r\n\r\n", 400),
        (f"{KEY}\r\n\r\n", 400),
        (f"GET /{KEY}{'a' * 9000} HTTP/1.1\r\n\r\n", 414),
        (f"GET / HTTP/1.1\r\nHost: localhost\r\nX: {KEY}{'a' * 9000}\r\n\r\n", 431),
        (f"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: {KEY}\r\n\r\n", 501),
        (f"POST /{KEY} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (
            f"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5;{KEY}\nb\r\nhello\r\n0\r\n\r\n",
            400,
        ),
        (f"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5;{KEY * 100}", 400),
        (f"GET /{KEY} HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\n" + f"X: {KEY * 90}\r\n" * 12 + "\r\n", 431),
    ],
    ids=name_of,
)
def test_what_is_no_request_is_refused_without_being_repeated(
    shared_service: Service, request_: str, status: int
) -> None:
    answer = send_raw(shared_service, request_.encode()).decode()
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert "application/problem+json" in answer
    log = shared_service.log()
    request_id = re.search(r"(?m)^X-Request-Id: (\w{24})\r$", answer)
    assert request_id
    assert json.loads(answer.partition("\r\n\r\n")[2])["request_id"] == request_id[1]
    assert f"malformed request {request_id[1]} from 127.0.0.1" in log
    assert KEY not in answer + log


@pytest.fixture(scope="module")
def shared_service() -> Iterator[Service]:
    """Yield a service whose store is never asked for anything."""
    with launch({"DATABASE_URL": "host=127.0.0.1 port=1"}, workers=1) as service:
        service.wait_until_ready("/livez")
        yield service


def test_what_an_outage_says_each_second_is_written_once_a_minute(written: io.StringIO) -> None:
    now, logger = [0.0], logging.getLogger("tests.server_log")
    filtered = ThrottleFilter(MessageThrottle(lambda: now[0]))
    logger.addFilter(filtered)
    try:
        for second in range(130):
            now[0] = float(second)
            logger.warning("error connecting in %r: %s", "pool-1", f"refused for the {second}th time")
            if second == 1:
                logger.warning("discarding broken connection: %s", "c")
    finally:
        logger.removeFilter(filtered)
    assert written.getvalue().splitlines() == [
        "[WARNING] error connecting in 'pool-1': refused for the 0th time",
        "[WARNING] discarding broken connection: c",
        "[WARNING] error connecting in 'pool-1': refused for the 60th time (59 more since the last such line)",
        "[WARNING] error connecting in 'pool-1': refused for the 120th time (59 more since the last such line)",
    ]
