"""A caller over its limit gets 429 and a time to retry; nobody else is affected, whatever the counters do."""

import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import fakeredis
import httpx
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from conversation.access import window_counter
from conversation.access.limits import Limits
from conversation.access.received import Received
from conversation.keys.callers import Caller
from conversation.refusals.codes import Refused
from conversation.settings import Settings
from logging_store.metrics.ledger import Ledger
from tests.access.limits_app import create_app
from tests.http_calls import KEYLESS, problem
from tests.service import launch

ADDRESS = "203.0.113.9"
DAY = 86400


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def limited(tmp_path: Path, **settings: str) -> FlaskClient:
    stated = {"DATA_DIR": str(tmp_path)} | {name.upper(): value for name, value in settings.items()}
    return create_app(Settings.from_mapping(stated if "TURNLOG_PROXIES" in stated else stated | KEYLESS)).test_client()


def call(
    client: FlaskClient, path: str = "/call", address: str = ADDRESS, data: Any = None, **who: str
) -> TestResponse:
    return client.post(path, query_string=who, environ_base={"REMOTE_ADDR": address}, data=data)


def statuses(answers: list[TestResponse]) -> list[int]:
    return [answer.status_code for answer in answers]


def metric(client: FlaskClient, name: str) -> float:
    lines = client.get("/metrics").get_data(as_text=True).splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"turnlog_calls_{name}_total"))


@contextmanager
def redis_server() -> Iterator[int]:
    """Yield the port of a Redis, which speaks its protocol over TCP."""
    server = fakeredis.TcpFakeServer(("127.0.0.1", 0))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield each place that counts are kept in."""
    if request.param == "memory":
        yield "memory"
        return
    with redis_server() as port:
        yield f"redis://127.0.0.1:{port}/0"


@pytest.mark.parametrize(
    ("kind", "setting", "said"),
    [
        ("secret", "turnlog_rate_per_key", "This key may make 3 calls a minute"),
        ("publishable", "turnlog_rate_per_publishable_key", "This key may make 3 calls a minute"),
        ("user", "turnlog_rate_per_user", "A user may make 3 calls a minute"),
        ("publishable", "turnlog_rate_per_address", "Browsers at one address may make 3 calls a minute"),
        ("user", "turnlog_rate_per_address", "Browsers at one address may make 3 calls a minute"),
    ],
)
def test_a_call_over_the_limit_gets_retry_after(tmp_path: Path, store: str, kind: str, setting: str, said: str) -> None:
    client = limited(tmp_path, turnlog_limits_store=store, **{setting: "3/minute"})
    answers = [call(client, kind=kind) for _ in range(5)]
    assert statuses(answers) == [200, 200, 200, 429, 429]
    told = problem(answers[-1], 429)
    assert (told["code"], told["title"]) == ("rate-limited", "Too Many Requests")
    assert 1 <= told["retry_after"] <= 60
    assert answers[-1].headers["Retry-After"] == str(told["retry_after"])
    assert told["detail"] == f"{said}; send the same call again in {told['retry_after']} s"
    assert metric(client, "limited") == 2


def test_everybody_has_a_rate_of_their_own(tmp_path: Path, store: str) -> None:
    client = limited(
        tmp_path,
        turnlog_limits_store=store,
        turnlog_rate_per_publishable_key="1/minute",
        turnlog_rate_per_user="1/minute",
    )
    for who in ({"name": "a"}, {"name": "b"}, {"name": "a", "project": "q"}, {"name": "a", "kind": "user"}):
        assert statuses([call(client, **who) for _ in range(2)]) == [200, 429], who


def test_backends_and_the_machine_itself_are_not_limited_unless_asked_for(tmp_path: Path) -> None:
    tight = {"turnlog_rate_per_address": "1/minute", "turnlog_rate_per_publishable_key": "1/minute",
             "turnlog_rate_per_user": "1/minute", "turnlog_publishable_mb_per_day": "1",
             "turnlog_publishable_sessions_per_day": "1"}  # fmt: skip
    client = limited(tmp_path, **tight)
    for kind in ("machine", "operator", "secret"):
        assert statuses([call(client, kind=kind, data=b"x" * 600_000) for _ in range(3)]) == [200] * 3, kind
        assert statuses([call(client, "/session", kind=kind) for _ in range(3)]) == [200] * 3, kind
    assert not (tmp_path / "limits").exists() or metric(client, "limited") == 0


def test_a_rate_can_be_switched_off(tmp_path: Path) -> None:
    names = ("refusals_per_address", "rate_per_address", "rate_per_publishable_key", "rate_per_user")
    client = limited(tmp_path, **{f"turnlog_{name}": "off" for name in names})
    for kind in ("publishable", "user"):
        assert statuses([call(client, kind=kind) for _ in range(700)]) == [200] * 700
    assert statuses([call(client, "/refused") for _ in range(100)]) == [200] * 100


def test_when_a_window_is_over_the_next_begins(tmp_path: Path) -> None:
    clock = Clock()
    settings = {"DATA_DIR": str(tmp_path), "TURNLOG_RATE_PER_KEY": "2/hour"}
    limits = Limits(Settings.from_mapping(settings), Ledger(), clock)
    caller = Caller("secret", "p", frozenset(), key_id="one")

    def waits() -> int | None:
        try:
            limits.count_call(caller, ADDRESS, 0)
        except Refused as error:
            return cast("int", error.more["retry_after"])
        return None

    assert waits() is None
    clock.now += 1000
    assert [waits(), waits(), waits()] == [None, 2600, 2600]
    clock.now += 2599.5
    assert waits() == 1
    clock.now += 0.5
    assert [waits(), waits(), waits()] == [None, None, 3600]


def test_redis_ends_a_window_by_itself(tmp_path: Path) -> None:
    with redis_server() as port:
        client = limited(tmp_path, turnlog_limits_store=f"redis://127.0.0.1:{port}", turnlog_rate_per_key="1/second")
        give_up = time.monotonic() + 60
        while call(client, kind="secret").status_code != 429:
            assert time.monotonic() < give_up
        while call(client, kind="secret").status_code != 200:
            assert time.monotonic() < give_up
            time.sleep(0.05)


def test_a_key_in_browsers_may_only_create_so_many_sessions_in_a_day(tmp_path: Path, store: str) -> None:
    client = limited(tmp_path, turnlog_limits_store=store, turnlog_publishable_sessions_per_day="2")
    answers = [call(client, "/session") for _ in range(3)]
    assert statuses(answers) == [200, 200, 429]
    told = problem(answers[-1])
    assert told["detail"].startswith("This key may create 2 sessions in a day")
    assert 1 <= told["retry_after"] <= DAY
    assert call(client, "/session", name="another").status_code == 200
    assert statuses([call(client, "/session", kind="user") for _ in range(3)]) == [200] * 3


def test_a_key_in_browsers_may_only_send_so_much_in_a_day(tmp_path: Path, store: str) -> None:
    client = limited(tmp_path, turnlog_limits_store=store, turnlog_publishable_mb_per_day="1")
    large, rest = b"x" * 900_000, b"x" * 100_000
    assert call(client, data=large).status_code == 200
    told = problem(call(client, data=large), 429)
    assert told["detail"].startswith("This key may send 1 MB in a day")
    assert call(client, data=rest).status_code == 200, "what was refused took nothing away"
    assert call(client, data=rest).status_code == 429
    assert call(client).status_code == 200, "a call without a body is none of it"
    assert call(client, data=large, name="another").status_code == 200


def test_a_length_that_isn_t_true_takes_nothing_away(tmp_path: Path) -> None:
    client = limited(tmp_path, turnlog_publishable_mb_per_day="1")
    with Received() as received:  # as the service's worker hands it on
        received.add(b"x")
        told = {"REMOTE_ADDR": ADDRESS, "CONTENT_LENGTH": str(10**15), "wsgi.input": received}
        assert client.post("/call", environ_overrides=told).status_code == 200
    assert call(client, data=b"x" * 900_000).status_code == 200


@pytest.mark.parametrize("store", ["memory", "redis://127.0.0.1:1"])
def test_guessing_keys_is_limited_in_every_storage(tmp_path: Path, store: str) -> None:
    client = limited(tmp_path, turnlog_refusals_per_address="3/minute", turnlog_limits_store=store)
    answers = [call(client, "/refused") for _ in range(5)]
    assert statuses(answers) == [200, 200, 200, 429, 429]
    assert "Too many calls from this address were refused" in problem(answers[-1])["detail"]
    assert call(client, kind="operator").status_code == 429, "with a good key, too, or guessing would go on"
    assert call(client, "/refused", address="203.0.113.10").status_code == 200


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "127.8.9.1", ""])
def test_this_machine_may_be_refused_as_often_as_it_likes(tmp_path: Path, address: str) -> None:
    """Its address may be that of a proxy, and so of everybody."""
    client = limited(tmp_path, turnlog_refusals_per_address="1/day", turnlog_rate_per_address="1/day")
    assert statuses([call(client, "/refused", address=address) for _ in range(5)]) == [200] * 5
    assert statuses([call(client, address=address) for _ in range(5)]) == [200] * 5


def test_a_network_that_one_customer_has_counts_as_one_address(tmp_path: Path) -> None:
    client = limited(tmp_path, turnlog_rate_per_address="1/day", turnlog_rate_per_publishable_key="off")
    assert call(client, address="2001:db8:1:2::1").status_code == 200
    assert call(client, address="2001:db8:1:2:ffff::9").status_code == 429
    assert call(client, address="2001:db8:1:3::1").status_code == 200
    assert call(client, address="198.51.100.7").status_code == 200
    assert call(client, address="::ffff:198.51.100.7").status_code == 429
    assert call(client, address="::ffff:127.0.0.1").status_code == 200
    assert call(client, address="::ffff:127.0.0.1").status_code == 200


@pytest.mark.parametrize(
    ("proxies", "forwarded", "seen"),
    [
        ("0", "198.51.100.7", ADDRESS),
        ("1", "198.51.100.7", "198.51.100.7"),
        ("1", "127.0.0.1, 198.51.100.7", "198.51.100.7"),
        ("2", "127.0.0.1, 198.51.100.7, 192.0.2.1", "198.51.100.7"),
        ("2", "198.51.100.7", ADDRESS),
        ("1", "", ADDRESS),
        ("1", "evil, 198.51.100.7", "198.51.100.7"),
        ("1", '198.51.100.9, ", 198.51.100.7', "198.51.100.7"),
        ("1", '"198.51.100.9, 198.51.100.7', "198.51.100.7"),
        ("2", '198.51.100.9, ", 198.51.100.7, 192.0.2.1', "198.51.100.7"),
        ("2", "198.51.100.9, , 198.51.100.7, 192.0.2.1", "198.51.100.7"),
        ("1", "198.51.100.7, ", "no address"),
        ("1", "2001:db8::7", "2001:db8::7"),
        ("2", "127.0.0.1, 10.0.0.1, 198.51.100.7, 192.0.2.1", "198.51.100.7"),
        ("3", "198.51.100.7, 192.0.2.1", ADDRESS),
    ],
)
def test_behind_proxies_the_address_is_the_one_that_the_first_of_ours_saw(
    tmp_path: Path, proxies: str, forwarded: str, seen: str
) -> None:
    client = limited(tmp_path, turnlog_proxies=proxies)
    told = {"X-Forwarded-For": forwarded, "X-Forwarded-Host": "evil.example", "X-Forwarded-Prefix": "/x"}
    answer = client.post("/call", environ_base={"REMOTE_ADDR": ADDRESS}, headers=told if forwarded else {})
    assert (answer.status_code, answer.get_data(as_text=True)) == (200, seen)


@pytest.mark.parametrize(
    ("forwarded", "same"),
    [
        ("198.51.100.7:4711", "198.51.100.7:4712"),
        ("[2001:db8:1:2::1]:443", "2001:db8:1:2::9"),
        ("[::ffff:198.51.100.7]:80", "198.51.100.7"),
        ("unknown", "_hidden"),
        ("198.51.100.7.example", "x" * 5000),
        ("0", "999.1.1.1"),
    ],
)
def test_a_port_or_garbage_in_what_a_proxy_reports_gives_no_second_count(
    tmp_path: Path, forwarded: str, same: str
) -> None:
    client = limited(tmp_path, turnlog_proxies="1", turnlog_rate_per_address="1/day")

    def status(address: str) -> int:
        told = {"X-Forwarded-For": f"203.0.113.77, {address}"}
        return client.post("/call", environ_base={"REMOTE_ADDR": ADDRESS}, headers=told).status_code

    assert [status(forwarded), status(forwarded), status(same)] == [200, 429, 429]


def test_a_failing_storage_blocks_no_calls(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    client = limited(tmp_path / "file", turnlog_rate_per_publishable_key="1/day", turnlog_refusals_per_address="1/day")
    with caplog.at_level(logging.WARNING):
        assert statuses([call(client) for _ in range(5)]) == [200] * 5
        assert statuses([call(client, "/refused") for _ in range(5)]) == [200] * 5
    assert [record.levelname for record in caplog.records] == ["WARNING"], "once, not for each call"
    assert "calls pass uncounted" in caplog.text
    assert metric(client, "uncounted") > 10


def test_a_redis_that_is_away_stops_nobody_and_is_asked_seldom(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_counter, "PAUSE_S", 3600.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        secret = "hunter2-hunter2"  # noqa: S105
        url = f"redis://:{secret}@127.0.0.1:{silent.getsockname()[1]}/0"
        client = limited(tmp_path, turnlog_limits_store=url, turnlog_rate_per_publishable_key="1/day")
        with caplog.at_level(logging.WARNING):
            assert statuses([call(client) for _ in range(20)]) == [200] * 20
        silent.setblocking(False)
        for _ in range(2):  # a connection, and one more since that might have been an old one
            silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert len(caplog.records) == 1
    assert secret not in caplog.text
    assert metric(client, "uncounted") == 40


def test_a_redis_that_comes_back_is_counted_in_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_counter, "PAUSE_S", 0.0)
    with redis_server() as port:
        url = f"redis://127.0.0.1:{port}"
        client = limited(tmp_path, turnlog_limits_store=url, turnlog_rate_per_key="1/day")
        assert statuses([call(client, kind="secret") for _ in range(2)]) == [200, 429]
    assert statuses([call(client, kind="secret") for _ in range(3)]) == [200] * 3
    server = fakeredis.TcpFakeServer(("127.0.0.1", port))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        with caplog.at_level(logging.WARNING):
            assert statuses([call(client, kind="secret") for _ in range(2)]) == [200, 429]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert "3 calls passed uncounted" in caplog.text


def test_workers_count_together_and_a_restart_forgets_nothing(database: str, tmp_path: Path) -> None:
    environment = KEYLESS | {"DATABASE_URL": database, "DATA_DIR": str(tmp_path), "TURNLOG_RATE_PER_KEY": "30/day"}

    def ask(url: str) -> int:
        with httpx.Client(timeout=30) as client:  # a connection each, so that both workers are asked
            return client.post(f"{url}/call?kind=secret").status_code

    with (
        launch(environment, application="tests.access.limits_app:create_app()") as service,
        ThreadPoolExecutor(8) as pool,
    ):
        service.wait_until_ready()
        assert len(service.workers()) == 2
        answered = list(pool.map(ask, [service.url] * 60))
    assert (answered.count(200), answered.count(429)) == (30, 30)
    with launch(environment, application="tests.access.limits_app:create_app()") as service:
        service.wait_until_ready()
        assert ask(service.url) == 429
