"""The PostgREST stand-in answers as PostgREST 14.17 did, and supabase-py 2.34.1 makes the same of it."""

from collections.abc import Callable
from typing import Any

import httpx
import psycopg
import pytest

from supabase import Client
from tests.postgrest import Answer, Disconnect, Fault, PostgrestStandIn, Respond, Truncate
from tests.postgrest.recordings import GATEWAY, PLAIN, ROLES, recorded, replay, replay_by_supabase_py

pytest_plugins = ["tests.postgrest.fixtures"]

Admin = psycopg.Connection[Any]

# Without those that it was set up differently for, and those that only wait.
BY_SUPABASE_PY = [
    name
    for name, exchange in PLAIN.items()
    if "client" in exchange and exchange["request"]["key"] in ROLES
    if "headers" not in exchange["request"] and "statement_timeout" not in name
]


@pytest.mark.parametrize("name", PLAIN)
def test_answers_as_recorded(name: str, http: httpx.Client, standin: PostgrestStandIn, admin: Admin) -> None:
    assert replay(http, standin, PLAIN[name]) == recorded(PLAIN[name])


@pytest.mark.parametrize("name", BY_SUPABASE_PY)
def test_supabase_py_makes_of_it_what_was_recorded(
    name: str,
    http: httpx.Client,
    standin: PostgrestStandIn,
    supabase_as: Callable[[str], Client],
    admin: Admin,
) -> None:
    exchange = PLAIN[name]
    for earlier in exchange.get("after", []):
        replay(http, standin, PLAIN[earlier])
    assert replay_by_supabase_py(supabase_as(exchange["request"]["key"]), exchange) == exchange["client"]


@pytest.mark.parametrize("name", GATEWAY)
def test_a_failing_gateway_looks_as_recorded(
    name: str, standin: PostgrestStandIn, supabase_as: Callable[[str], Client]
) -> None:
    answer = GATEWAY[name]["response"]
    faults: dict[str, Disconnect | Truncate] = {
        "gateway_closes_without_answer": Disconnect(),
        "gateway_truncated_200_body": Truncate(Answer(200, b'[{"a":' + b" " * 50), keep_bytes=6),
    }
    respond = Respond(answer["status"], answer["body"], answer["headers"], answer.get("reason"))
    standin.faults.add(Fault(faults.get(name, respond)))
    seen = replay_by_supabase_py(supabase_as("service_role"), GATEWAY[name])
    assert seen == GATEWAY[name]["client"]


def test_a_body_of_a_megabyte_passes(supabase_as: Callable[[str], Client]) -> None:
    size = supabase_as("service_role").rpc("size_of", {"j": {"s": "x" * 1_000_000}}).execute().data
    assert size == 1_000_009


def test_json_nested_too_deep_is_refused_in_the_words_of_postgres(
    http: httpx.Client, standin: PostgrestStandIn
) -> None:
    body = '{"j":' + "[" * 100_000 + "]" * 100_000 + "}"
    answer = http.post(f"{standin.url}/rpc/size_of", content=body)
    assert (answer.status_code, answer.json()["code"]) == (500, "54001")


def test_opaque_keys_stand_for_a_role(http: httpx.Client, authenticator_dsn: str) -> None:
    with PostgrestStandIn(authenticator_dsn, opaque_keys={"sb_secret_1": "service_role"}) as standin:
        url = f"{standin.url}/rpc/revoked"
        alone = http.post(url, json={"x": 1}, headers={"apikey": "sb_secret_1"})
        doubled = {"apikey": "sb_secret_1", "authorization": "Bearer sb_secret_1"}
        as_supabase_py_sends_it = http.post(url, json={"x": 1}, headers=doubled)
        of_a_user = {"apikey": "sb_secret_1", "authorization": f"Bearer {standin.key('authenticated')}"}
        with_the_token_of_a_user = http.post(url, json={"x": 1}, headers=of_a_user)
        unknown = http.post(url, json={"x": 1}, headers={**doubled, "authorization": "Bearer sb_secret_2"})
    assert (alone.status_code, as_supabase_py_sends_it.status_code) == (200, 200)
    assert with_the_token_of_a_user.status_code == 403
    assert unknown.json()["message"] == "Expected 3 parts in JWT; got 1"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/rest/v1/rpc/f_scalar"), ("POST", "/rest/v1/rpc/f_setof?id=eq.2"), ("POST", "/rest/v1/checked")],
)
def test_what_it_does_not_know_it_says(method: str, path: str, http: httpx.Client, standin: PostgrestStandIn) -> None:
    response = http.request(method, standin.url + path, json={})
    assert response.status_code == 501
    assert "does not know" in response.json()["message"]
