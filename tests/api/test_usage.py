"""Tokens and cost of each user in a span: exact up to a bound, and all of one user's whatever there is."""

from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient

from tests.conftest import PROJECT, Backend
from tests.http_calls import create, in_path, log, paths

DAY = {"from": "2026-11-20T00:00:00Z", "to": "2026-11-21T00:00:00Z"}
SAID = {"prompt": "1", "started_at": "2026-11-20T01:00:00Z", "model": "gpt-4o"}


def usage(client: FlaskClient, **query: Any) -> dict[str, Any]:
    answer = client.get("/v1/usage", query_string=DAY | query)
    assert answer.status_code == 200, answer.get_data()
    found: dict[str, Any] = answer.get_json()
    return found


@pytest.fixture
def users(client: FlaskClient) -> FlaskClient:
    """Log of ada 3 M tokens in two sessions, of bob 2 M, of مريم 1 M with a cost, and 1 M of nobody's."""
    for session, user in (("a", "ada"), ("b", "ada"), ("c", "bob"), ("d", "مريم"), ("e", None)):
        create(client, session_id=session, user_id=user, started_at="2026-01-01T00:00:00Z")
    for session, tokens in (("a", 1_000_000), ("b", 2_000_000), ("c", 2_000_000), ("e", 1_000_000)):
        log(client, session_id=session, input_tokens=tokens, output_tokens=0, **SAID)
    log(client, session_id="d", input_tokens=0, output_tokens=1_000_000, cost_usd=0.5, **SAID)
    log(client, session_id="d", prompt="1", started_at="2026-11-21T00:00:00Z", input_tokens=9, cost_usd=9)
    return client


def test_those_with_the_most_tokens_come_first_with_their_cost(users: FlaskClient) -> None:
    found = usage(users, by="user")
    assert (found["looked_at"], found["user_count"], found["next"]) == (1, 3, None)
    rows = [
        (each["user_id"], each["sessions"], each["interactions"], each["cost_usd"], each["estimated_cost_usd"])
        for each in found["users"]
    ]
    assert rows == [("ada", 2, 2, 0, 7.5), ("bob", 1, 1, 0, 5), ("مريم", 1, 1, 0.5, 0)]
    assert found["total"] == {
        "interactions": 5, "input_tokens": 6_000_000, "output_tokens": 1_000_000, "cached_input_tokens": 0,
        "cache_write_tokens": 0, "reasoning_tokens": 0, "cost_usd": 0.5, "estimated_cost_usd": 15, "without_cost": 0,
    }  # fmt: skip


def test_pages_hold_each_user_once(users: FlaskClient) -> None:
    create(users, session_id="f", user_id="bea", started_at="2026-01-01T00:00:00Z")
    log(users, session_id="f", input_tokens=2_000_000, **SAID)  # as many tokens as bob
    whole = usage(users)
    seen, query = [], {"limit": 1}
    while True:
        page = usage(users, **query)
        assert page["total"] == whole["total"]
        seen += page["users"]
        if page["next"] is None:
            break
        query = {"limit": 1, "cursor": page["next"]}
    assert seen == whole["users"]
    assert [each["user_id"] for each in seen] == ["ada", "bea", "bob", "مريم"]


def test_one_user_alone_is_summed_up_as_among_all(users: FlaskClient) -> None:
    for row in usage(users)["users"]:
        alone = usage(users, user_id=row["user_id"])
        assert alone["users"] == [row]
        assert {name: row[name] for name in alone["total"]} == alone["total"]
    nobody = usage(users, user_id="nobody")
    assert (nobody["users"], nobody["total"]["interactions"], nobody["total"]["cost_usd"]) == ([], 0, 0)


def test_what_was_erased_is_not_counted(users: FlaskClient) -> None:
    users.delete(in_path("a"))
    assert usage(users)["users"][1]["input_tokens"] == usage(users, user_id="ada")["total"]["input_tokens"] == 2_000_000


def test_what_is_being_erased_is_not_counted(users: FlaskClient, backend: Backend) -> None:
    backend.cut_erasing("a")
    assert usage(users, user_id="ada")["total"]["input_tokens"] == 2_000_000
    assert usage(users)["total"]["input_tokens"] == 5_000_000


def test_unknown_costs_are_null_and_the_cache_has_its_price(client: FlaskClient) -> None:
    create(client, session_id="a", user_id="ada")
    log(client, session_id="a", input_tokens=100, output_tokens=0, cached_input_tokens=1_000_000, **SAID)
    log(client, session_id="a", input_tokens=5, **SAID | {"model": "own"})
    (row,) = usage(client)["users"]
    assert row["estimated_cost_usd"] == pytest.approx(1.25 + 0.00025)
    assert (row["cost_usd"], row["without_cost"], row["cached_input_tokens"]) == (None, 1, 1_000_000)


@pytest.mark.own_database
def test_of_very_many_a_sample_is_read_and_scaled_and_one_user_exactly(
    client: FlaskClient, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(backend.database, autocommit=True) as connection:
        connection.execute(
            "insert into turnlog.ai_sessions (project, id, user_id, created_at)"
            " select %s, md5(n::text)::uuid, 'user ' || n %% 3, '2026-11-20' from generate_series(0, 1439) as n",
            [PROJECT],
        )
        connection.execute(
            "insert into turnlog.ai_interactions (project, session_id, id, model, input_tokens, created_at)"
            " select %s, md5((n %% 1440)::text)::uuid, md5('i' || n)::uuid, 'gpt-4o', 100,"
            " '2026-11-20'::timestamptz + n / 24000.0 * interval '1 day' from generate_series(0, 23999) as n",
            [PROJECT],
        )
    exact = usage(client)
    assert exact["looked_at"] == 1
    assert exact["total"]["estimated_cost_usd"] == pytest.approx(24_000 * 100 * 2.5 / 1e6)
    monkeypatch.setattr("conversation.api.usage._MOST_ROWS", 10_000)
    monkeypatch.setattr("conversation.api.usage._SAMPLE", 4_000)
    sampled = usage(client)
    assert 0.1 < sampled["looked_at"] < 0.25
    for name in ("interactions", "input_tokens", "estimated_cost_usd"):
        assert sampled["total"][name] == pytest.approx(exact["total"][name], rel=0.05)
    assert {each["sessions"] for each in sampled["users"]} == {None}
    alone = usage(client, user_id="user 0")
    assert alone["looked_at"] == 1
    assert alone["users"] == [each for each in exact["users"] if each["user_id"] == "user 0"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"by": "model"}, "?by"),
        ({"limit": "1001"}, "?limit"),
        ({"cursor": "x"}, "?cursor"),
        ({"cursor": "0" * 20}, "?cursor"),
        ({"span": "7d"}, "?span"),
        ({"to": "2026-11-20T00:00:00Z"}, "?to"),
        ({"user": "ada"}, "?user"),
    ],
)
def test_an_invalid_query_is_refused(client: FlaskClient, query: dict[str, str], names: str) -> None:
    assert paths(client.get("/v1/usage", query_string=DAY | query)) == [names]


def test_any_cursor_of_the_right_form_is_harmless(users: FlaskClient) -> None:
    assert usage(users, cursor="0" * 20 + "ff00")["users"] == []
    assert len(usage(users, cursor="f" * 20 + "61")["users"]) == 3


def test_the_days_of_a_span_begin_at_midnight_of_a_zone(client: FlaskClient) -> None:
    begins = {
        zone: client.get("/v1/usage", query_string={"span": "30d"} | ({"zone": zone} if zone else {})).get_json()[
            "from"
        ]
        for zone in ("", "Asia/Kolkata")
    }
    assert begins[""].endswith("T00:00:00Z")
    assert begins["Asia/Kolkata"].endswith("T18:30:00Z")
    assert paths(client.get("/v1/usage?zone=Atlantis")) == ["?zone"]
