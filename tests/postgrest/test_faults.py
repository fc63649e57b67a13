"""Faults on order, and how the stand-in itself ends."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.postgrest import Disconnect, Fault, PostgrestStandIn, Respond, Stall, Trickle, Truncate, sign
from tests.postgrest.faults import When

pytest_plugins = ["tests.postgrest.fixtures"]

Admin = psycopg.Connection[Any]
Insert = Callable[[int], httpx.Response]

ROOT = Path(__file__).parent.parent.parent
CUT_OFF = [Disconnect(), Truncate()]


@pytest.fixture
def insert(standin: PostgrestStandIn, http: httpx.Client) -> Insert:
    """Return a way to insert a row of this id by a call of `record_batch`."""
    headers = {"authorization": f"Bearer {standin.key()}"}

    def post(number: int) -> httpx.Response:
        session = {"project": "p", "id": f"00000000-0000-0000-0000-{number:012}"}
        body = {"batch": {"sessions": [session]}}
        return http.post(f"{standin.url}/rest/v1/rpc/record_batch", json=body, headers=headers)

    return post


def rows(admin: Admin) -> int:
    return len(admin.execute("select from ai_sessions").fetchall())


@pytest.mark.parametrize("action", CUT_OFF)
@pytest.mark.parametrize(("when", "stored"), [("before", 0), ("after", 1)])
def test_a_lost_answer_leaves_the_row_only_after_the_commit(
    *,
    action: Disconnect | Truncate,
    when: When,
    stored: int,
    standin: PostgrestStandIn,
    insert: Insert,
    admin: Admin,
) -> None:
    standin.faults.add(Fault(action, when=when))
    with pytest.raises(httpx.RemoteProtocolError):
        insert(1)
    assert rows(admin) == stored


@pytest.mark.parametrize(("when", "stored"), [("before", 0), ("after", 1)])
def test_another_answer_can_hide_what_happened(
    when: When, stored: int, standin: PostgrestStandIn, insert: Insert, admin: Admin
) -> None:
    standin.faults.add(Fault(Respond(502, "<html>"), when=when))
    answer = insert(1)
    assert (answer.status_code, answer.text, rows(admin)) == (502, "<html>", stored)


@pytest.mark.parametrize(("when", "stored_meanwhile"), [("before", 0), ("after", 1)])
def test_a_stall_delays_the_call_or_its_answer(
    when: When, stored_meanwhile: int, standin: PostgrestStandIn, insert: Insert, admin: Admin
) -> None:
    standin.faults.add(Fault(Stall(0.3), when=when))
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(insert, 1)
        time.sleep(0.15)
        assert rows(admin) == stored_meanwhile
        assert answer.result().status_code == 200
    assert rows(admin) == 1


def test_a_fault_meets_so_many_calls_of_its_function(
    standin: PostgrestStandIn, http: httpx.Client, insert: Insert, admin: Admin
) -> None:
    standin.faults.add(Fault(Respond(503), function="record_batch", times=2))
    met_before = standin.faults.applied
    assert http.post(f"{standin.url}/rpc/f_scalar", json={}).status_code == 200
    assert [insert(number).status_code for number in (1, 2, 3)] == [503, 503, 200]
    assert standin.faults.applied - met_before == 2


def test_a_fault_without_a_count_stays_until_cleared(standin: PostgrestStandIn, insert: Insert, admin: Admin) -> None:
    standin.faults.add(Fault(Respond(503), times=None))
    assert [insert(number).status_code for number in range(3)] == [503] * 3
    standin.faults.clear()
    assert insert(3).status_code == 200


def test_a_call_that_fails_by_itself_leaves_the_fault_for_the_next(
    standin: PostgrestStandIn, http: httpx.Client, insert: Insert, admin: Admin
) -> None:
    standin.faults.add(Fault(Respond(502), when="after"))
    assert http.post(f"{standin.url}/rpc/e_p0001", json={}).status_code == 400
    assert insert(1).status_code == 502


def test_latency_is_added_to_each_request(authenticator_dsn: str, http: httpx.Client) -> None:
    with PostgrestStandIn(authenticator_dsn, latency_s=0.1) as standin:
        assert http.post(f"{standin.url}/rpc/f_scalar", json={}).elapsed.total_seconds() >= 0.1


def test_closing_gives_no_answer_and_rolls_back(authenticator_dsn: str, http: httpx.Client, admin: Admin) -> None:
    threads_before = threading.active_count()
    with ThreadPoolExecutor(1) as threads:
        with PostgrestStandIn(authenticator_dsn) as standin:
            url, headers = f"{standin.url}/rpc/hold_lock", {"authorization": f"Bearer {standin.key()}"}
            answer = threads.submit(http.post, url, json={"a": 1, "s": 5}, headers=headers)
            sleeping = "select from pg_stat_activity where wait_event = 'PgSleep'"
            while not admin.execute(sleeping).fetchall():
                time.sleep(0.005)
        with pytest.raises(httpx.RemoteProtocolError):
            answer.result()
    assert admin.execute("select n from locked where id = 1").fetchone() == (0,)
    assert threading.active_count() == threads_before


def test_it_comes_back_on_the_same_port(authenticator_dsn: str, http: httpx.Client) -> None:
    with PostgrestStandIn(authenticator_dsn) as first:
        url = f"{first.url}/rpc/f_scalar"
        assert http.post(url, json={}).json() == 42
    with pytest.raises(httpx.ConnectError):
        http.post(url, json={})
    with PostgrestStandIn(authenticator_dsn, port=httpx.URL(url).port or 0):
        assert http.post(url, json={}).json() == 42


def test_it_runs_as_a_process(authenticator_dsn: str, http: httpx.Client) -> None:
    secret = "of its own; " * 4
    command = [sys.executable, "-m", "tests.postgrest", "--dsn", authenticator_dsn, "--secret", secret]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            headers = {"authorization": f"Bearer {sign(secret, 'service_role')}"}
            answer = http.post(f"{url}/rest/v1/rpc/revoked", json={"x": 7}, headers=headers)
        finally:
            process.terminate()
        assert process.wait(timeout=10) == 0
    assert answer.json() == 7


def test_a_reset_is_met_as_one(standin: PostgrestStandIn, insert: Insert, admin: Admin) -> None:
    standin.faults.add(Fault(Disconnect(reset=True), when="after"))
    with pytest.raises(httpx.ReadError, match="reset"):
        insert(1)
    assert rows(admin) == 1


def test_a_trickling_answer_is_whole_and_late(standin: PostgrestStandIn, insert: Insert, admin: Admin) -> None:
    standin.faults.add(Fault(Trickle(0.001), when="after"))
    began = time.monotonic()
    assert insert(1).json()[0]["written"] is True
    assert time.monotonic() - began > 0.1, "a hundred bytes and more, one by one"
