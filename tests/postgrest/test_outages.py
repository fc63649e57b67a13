"""What goes wrong around a call, as recorded from the real one: locks, a full pool, Postgres away."""

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.postgrest import PostgrestStandIn
from tests.postgrest.recordings import SCENES, recorded, replay

pytest_plugins = ["tests.postgrest.fixtures"]

Admin = psycopg.Connection[Any]
Call = Callable[..., httpx.Response]

DEADLINE_S = 10
SLEEPING = """
    select pid from pg_stat_activity
    where application_name = 'stand-in of one test' and state = 'active' and wait_event = 'PgSleep'
"""
END_BACKENDS = """
    select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'stand-in of one test'
"""


@pytest.fixture
def own(authenticator_dsn: str, admin: Admin) -> Iterator[PostgrestStandIn]:
    """Yield a stand-in for one test, with short waits."""
    # a name of its own, so that what ends its connections leaves those of other tests alone
    with PostgrestStandIn(
        make_conninfo(authenticator_dsn, application_name="stand-in of one test"),
        lock_timeout="100ms",
        pool_size=2,
        pool_timeout_s=0.2,
        serialization_retries=20,
        reload_pause_s=0,
    ) as running:
        yield running


@pytest.fixture
def call(own: PostgrestStandIn, http: httpx.Client) -> Call:
    """Return a way to call a function of `own` with a valid key."""
    key = own.key()

    def post(function: str, **arguments: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"}
        return http.post(f"{own.url}/rest/v1/rpc/{function}", json=arguments, headers=headers)

    return post


@pytest.fixture
def others() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


def eventually(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def sleeper(admin: Admin) -> int:
    """Wait until a call is inside `pg_sleep`; return its backend's process id."""
    eventually(lambda: admin.execute(SLEEPING).fetchone() is not None)
    row = admin.execute(SLEEPING).fetchone()
    assert row is not None
    return int(row[0])


@contextlib.contextmanager
def postgres_away(admin: Admin) -> Iterator[None]:
    """Refuse connections to all but superusers: to everybody else, Postgres has stopped."""
    limit = sql.SQL("alter database {} connection limit {}")
    name = sql.Identifier(admin.info.dbname)
    admin.execute(limit.format(name, 0))
    admin.execute(END_BACKENDS)
    try:
        yield
    finally:
        admin.execute(limit.format(name, -1))


def test_a_row_that_another_call_holds_ends_in_a_lock_timeout(
    own: PostgrestStandIn, http: httpx.Client, call: Call, admin: Admin, others: ThreadPoolExecutor
) -> None:
    holding = others.submit(call, "hold_lock", a=1, s=0.4)
    sleeper(admin)
    scene = SCENES["lock_timeout_55P03"]
    assert replay(http, own, scene) == recorded(scene)
    assert holding.result().status_code == 204


def test_a_deadlock_is_healed_unseen(
    authenticator_dsn: str, http: httpx.Client, admin: Admin, others: ThreadPoolExecutor
) -> None:
    deadlocks = "select deadlocks from pg_stat_database where datname = current_database()"
    before = admin.execute(deadlocks).fetchone()
    with PostgrestStandIn(authenticator_dsn) as standin:
        url, headers = f"{standin.url}/rpc/lock_two", {"authorization": f"Bearer {standin.key()}"}
        other = others.submit(http.post, url, json={"a": 1, "b": 2}, headers=headers)
        one = http.post(url, json={"a": 2, "b": 1}, headers=headers)
        assert (one.status_code, other.result().status_code) == (204, 204)
    # the connections have ended, and with that have reported what they counted
    eventually(lambda: admin.execute(deadlocks).fetchone() != before)


def test_serialization_failures_are_healed_unseen(
    standin: PostgrestStandIn, http: httpx.Client, admin: Admin, others: ThreadPoolExecutor
) -> None:
    url, headers = f"{standin.url}/rpc/bump_serializable", {"authorization": f"Bearer {standin.key()}"}
    answers = [others.submit(http.post, url, json={}, headers=headers) for _ in range(4)]
    assert sorted(answer.result().json() for answer in answers) == [1, 2, 3, 4]


@pytest.mark.parametrize("function", ["e_40001_always", "e_40p01_always"])
def test_a_bound_on_serialization_retries_ends_them(call: Call, admin: Admin, function: str) -> None:
    answer = call(function)
    assert (answer.status_code, answer.json()["code"]) == (500, function[2:7].upper())
    assert admin.execute("select last_value from runs").fetchone() == (21,)


@pytest.mark.parametrize("function", ["e_40001_always", "e_40p01_always"])
def test_without_a_bound_they_go_on_when_the_client_has_left(
    authenticator_dsn: str, admin: Admin, function: str
) -> None:
    runs = "select last_value from runs"
    with PostgrestStandIn(authenticator_dsn) as standin, httpx.Client() as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post(f"{standin.url}/rpc/{function}", json={}, timeout=0.1)
        when_the_client_left = admin.execute(runs).fetchone()
        eventually(lambda: admin.execute(runs).fetchone() != when_the_client_left)


def test_a_client_that_gives_up_cancels_nothing(own: PostgrestStandIn, http: httpx.Client, admin: Admin) -> None:
    headers = {"authorization": f"Bearer {own.key()}"}
    with pytest.raises(httpx.ReadTimeout):
        http.post(f"{own.url}/rpc/slow_insert", json={"i": 1, "s": 0.3}, headers=headers, timeout=0.1)
    assert admin.execute("select id from checked").fetchall() == []
    eventually(lambda: admin.execute("select id from checked").fetchall() == [(1,)])


def test_a_pool_without_a_free_connection_is_told_as_recorded(
    own: PostgrestStandIn, http: httpx.Client, call: Call, admin: Admin, others: ThreadPoolExecutor
) -> None:
    slow = [others.submit(call, "slow", s=0.6) for _ in range(2)]
    eventually(lambda: len(admin.execute(SLEEPING).fetchall()) == 2)
    scene = SCENES["pool_exhausted"]
    assert replay(http, own, scene) == recorded(scene)
    assert [answer.result().status_code for answer in slow] == [204, 204]


def test_functions_are_known_as_of_the_last_reload(own: PostgrestStandIn, http: httpx.Client, admin: Admin) -> None:
    def replayed_as_recorded(name: str) -> bool:
        return replay(http, own, SCENES[name]) == recorded(SCENES[name])

    admin.execute("create function newly_made(x int) returns int language sql as 'select x'")
    try:
        assert replayed_as_recorded("function_created_after_start")
        own.reload()
        assert replayed_as_recorded("function_created_after_reload")
    finally:
        admin.execute("drop function newly_made(int)")
    assert replayed_as_recorded("function_dropped_after_start_42883")


@pytest.mark.parametrize(
    ("name", "what_happens"),
    [
        ("backend_cancelled_mid_request_57014", "select pg_cancel_backend(%s)"),
        ("backend_terminated_mid_request_57P01", "select pg_terminate_backend(%s)"),
    ],
)
def test_a_call_that_postgres_ends_is_told_as_recorded(
    *,
    name: str,
    what_happens: str,
    own: PostgrestStandIn,
    http: httpx.Client,
    admin: Admin,
    others: ThreadPoolExecutor,
) -> None:
    answer = others.submit(replay, http, own, SCENES[name])
    admin.execute(what_happens, [sleeper(admin)])
    assert answer.result() == recorded(SCENES[name])


def test_connections_that_died_while_idle_fail_everything_until_the_schema_is_read_again(
    authenticator_dsn: str, http: httpx.Client, admin: Admin
) -> None:
    dsn = make_conninfo(authenticator_dsn, application_name="stand-in of one test")
    scene = SCENES["all_backends_terminated_then_call"]
    with PostgrestStandIn(dsn, reload_pause_s=0.5) as standin:
        url = f"{standin.url}/rpc/f_scalar"
        assert http.post(url, json={}).json() == 42
        admin.execute(END_BACKENDS)
        codes = [http.post(url, json={}).json()["code"] for _ in range(2)]
        assert codes == ["57P01", "PGRST002"]
        eventually(lambda: http.post(url, json={}).status_code == 200)
        assert replay(http, standin, scene) == recorded(scene)


@pytest.mark.parametrize("volatility", ["stable", "immutable"])
def test_a_function_that_says_it_only_reads_may_not_write(
    own: PostgrestStandIn, call: Call, admin: Admin, volatility: str
) -> None:
    admin.execute(f"alter function lock_two(int, int) {volatility}".encode())
    try:
        own.reload()
        answer = call("lock_two", a=1, b=2)
    finally:
        admin.execute("alter function lock_two(int, int) volatile")
    # SQL functions refuse it themselves, and the read-only transaction what they call
    assert (answer.status_code, answer.json()["code"]) in {(405, "25006"), (400, "0A000")}


def test_while_postgres_is_away_only_keys_are_checked_until_it_is_back(
    own: PostgrestStandIn, http: httpx.Client, call: Call, admin: Admin
) -> None:
    call("f_scalar")
    with postgres_away(admin):
        assert call("f_scalar").json()["code"] == "57P01"
        for name in ("postgres_stopped_rpc", "postgres_stopped_unknown_function", "postgres_stopped_expired_jwt"):
            assert replay(http, own, SCENES[name]) == recorded(SCENES[name])
    assert call("f_scalar").json() == 42


def test_it_can_start_before_postgres(authenticator_dsn: str, http: httpx.Client, admin: Admin) -> None:
    with contextlib.ExitStack() as stack:
        with postgres_away(admin):
            standin = stack.enter_context(PostgrestStandIn(authenticator_dsn, reload_pause_s=0))
            assert http.post(f"{standin.url}/rpc/f_scalar", json={}).json()["code"] == "PGRST002"
        assert http.post(f"{standin.url}/rpc/f_scalar", json={}).json() == 42
