"""The overview of a span: every figure is that of the rows, and a project of any size is looked at in bounded time."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import psycopg
import pytest
from flask.testing import FlaskClient

from conversation.api.overview import parse_span
from conversation.api.pagination import OverviewQuery
from conversation.api.pricing import Prices, TokensOfCall
from logging_store import operations as ops
from logging_store.store import Store
from tests.conftest import PROJECT, Backend
from tests.http_calls import create, in_path, log, paths
from tests.store_calls import ask

DAY = {"from": "2026-11-20T00:00:00Z", "to": "2026-11-21T00:00:00Z"}
NOW = datetime(2026, 11, 21, 6, 30, tzinfo=UTC)
HOURS = [f"2026-11-20T{hour:02}:00:00Z" for hour in range(24)]


def overview(client: FlaskClient, **query: str) -> dict[str, Any]:
    answer = client.get("/v1/overview", query_string=query)
    assert answer.status_code == 200, answer.get_data()
    told: dict[str, Any] = answer.get_json()
    return told


def at(hour: int, minute: int = 0) -> str:
    return f"2026-11-20T{hour:02}:{minute:02}:00Z"


def test_counts_stand_in_the_hour_in_which_each_began(client: FlaskClient) -> None:
    log(client, session_id="s", prompt="1", response="2", started_at=at(0))
    log(client, session_id="s", prompt="1", response="2", started_at=at(0, 59))
    log(client, session_id="s", prompt="1", error="Timeout", started_at=at(1))
    log(client, session_id="t", prompt="1", started_at=at(23, 59))
    log(client, session_id="t", prompt="1", status="abandoned", started_at=at(23, 59))
    for outside in ("2026-11-19T23:59:59Z", "2026-11-21T00:00:00Z"):
        log(client, session_id="t", prompt="1", error="Timeout", started_at=outside)
    create(client, session_id="u", started_at=at(1, 30))
    told = overview(client, **DAY)
    assert told["looked_at"] == {"interactions": 1, "failures": 1, "sessions": 1}
    counts = {name: told["total"][name] for name in ("interactions", "completed", "failed", "pending", "abandoned")}
    assert counts == {"interactions": 5, "completed": 2, "failed": 1, "pending": 1, "abandoned": 1}
    assert told["total"]["sessions"] == 2, "t began the day before"
    buckets = {bucket["at"]: bucket for bucket in told["buckets"]}
    assert len(buckets) == 24
    assert [buckets[at(hour)]["interactions"] for hour in (0, 1, 2, 23)] == [2, 1, 0, 2]
    assert [buckets[at(hour)]["failed"] for hour in (0, 1, 23)] == [0, 1, 0]
    assert [buckets[at(hour)]["sessions"] for hour in (0, 1, 2)] == [1, 1, 0]


def test_an_interaction_without_a_time_counts_when_it_arrived(client: FlaskClient) -> None:
    log(client, session_id="s", prompt="1")
    create(client, session_id="t")
    told = overview(client)
    assert told["total"]["interactions"] == 1
    assert told["total"]["sessions"] == 2
    assert [bucket["interactions"] for bucket in told["buckets"]] == [0] * 23 + [1]


def test_latencies_are_percentiles_of_all_and_of_each_part(client: FlaskClient) -> None:
    for n in range(1, 101):
        log(
            client,
            session_id="s",
            prompt="1",
            response="2",
            started_at=at(n % 2),
            latency_ms=n,
            time_to_first_token_ms=n / 10,
        )
    told = overview(client, **DAY)
    assert told["total"]["latency_ms"] == {"p50": 50.5, "p95": pytest.approx(95.05)}
    assert told["total"]["time_to_first_token_ms"] == {"p50": 5.05, "p95": pytest.approx(9.505)}
    assert [bucket["latency_ms"]["p50"] for bucket in told["buckets"][:3]] == [51, 50, None]


def test_a_latency_that_nobody_stated_is_the_time_between(client: FlaskClient) -> None:
    log(client, session_id="s", prompt="1", response="2", started_at=at(1), completed_at="2026-11-20T01:00:02.5Z")
    log(client, session_id="s", prompt="1", response="2", completed_at=at(1))
    assert overview(client, **DAY)["total"]["latency_ms"] == {"p50": 2500, "p95": 2500}


def test_costs_are_those_stated_and_estimates_apart(client: FlaskClient) -> None:
    said = {"session_id": "s", "prompt": "1", "response": "2", "started_at": at(1)}
    log(client, **said, model="gpt-4o", provider="openai", input_tokens=1000, output_tokens=100)
    log(client, **said, model="gpt-4o", provider="openai", input_tokens=1000, output_tokens=100)
    log(client, **said, model="gpt-4o", provider="openai", input_tokens=7, output_tokens=7, cost_usd=0.25)
    log(client, **said, model="gpt-4o", provider="openai")
    log(client, **said, model="our own", input_tokens=10, output_tokens=10)
    log(client, **said, model="our own", cost_usd=0.5)
    log(client, **said)
    told = overview(client, **DAY)
    assert told["models"][0] == {
        "input_tokens": 2007, "output_tokens": 207, "cached_input_tokens": 0, "cache_write_tokens": 0,
        "reasoning_tokens": 0, "cost_usd": 0.25, "estimated_cost_usd": pytest.approx(0.007),
        "without_cost": 1, "model": "gpt-4o", "provider": "openai", "interactions": 4,
    }  # fmt: skip
    others = [
        (use["model"], use["cost_usd"], use["estimated_cost_usd"], use["without_cost"]) for use in told["models"][1:]
    ]
    assert others == [("our own", 0.5, None, 1), (None, None, None, 1)]  # unknown isn't 0
    assert told["model_count"] == 3
    assert told["total"]["cost_usd"] == 0.75
    assert told["total"]["estimated_cost_usd"] == pytest.approx(0.007)
    assert told["total"]["without_cost"] == 3
    assert (told["total"]["input_tokens"], told["total"]["output_tokens"]) == (2017, 217)


def test_a_model_has_its_price_under_the_names_that_gateways_give_it(client: FlaskClient) -> None:
    for model, provider in {
        "gpt-4o": None,
        "openai/gpt-4o": "openai",
        "openrouter/openai/gpt-4o": None,
        "azure/gpt-4o": None,
        "anthropic/claude-3.5-sonnet": None,
        "bedrock/anthropic.claude-3-5-sonnet-20241022-v2:0": None,
    }.items():
        log(
            client, session_id="s", interaction_id=model, prompt="p", response="r", model=model, provider=provider,
            input_tokens=1_000_000, output_tokens=0, started_at=at(12),
        )  # fmt: skip
    found = overview(client, **DAY)
    assert {use["model"]: (use["estimated_cost_usd"], use["without_cost"]) for use in found["models"]} == {
        "gpt-4o": (2.5, 0),
        "openai/gpt-4o": (2.5, 0),
        "openrouter/openai/gpt-4o": (2.5, 0),
        "azure/gpt-4o": (2.5, 0),
        "anthropic/claude-3.5-sonnet": (3.0, 0),
        "bedrock/anthropic.claude-3-5-sonnet-20241022-v2:0": (3.0, 0),
    }
    assert (found["total"]["estimated_cost_usd"], found["total"]["without_cost"]) == (16, 0)


def test_an_unknown_cost_is_null_and_an_empty_span_costs_nothing(client: FlaskClient) -> None:
    total = overview(client, **DAY)["total"]
    assert (total["cost_usd"], total["estimated_cost_usd"], total["without_cost"]) == (0, 0, 0)
    log(client, session_id="s", prompt="p", model="our own", input_tokens=10, started_at=at(1))
    total = overview(client, **DAY)["total"]
    assert (total["cost_usd"], total["estimated_cost_usd"], total["without_cost"]) == (None, None, 1)
    log(client, session_id="s", prompt="p", model="qwen/qwen3-coder:free", input_tokens=10, started_at=at(1))
    total = overview(client, **DAY)["total"]
    assert (total["cost_usd"], total["estimated_cost_usd"], total["without_cost"]) == (None, 0, 1)


def test_a_long_input_is_priced_by_its_own_tier(client: FlaskClient) -> None:
    said = {"session_id": "s", "prompt": "1", "started_at": at(1), "model": "gemini-2.5-pro", "provider": "google"}
    log(client, **said, input_tokens=200_000)
    log(client, **said, input_tokens=200_001)
    log(client, **said, input_tokens=100_000)
    assert overview(client, **DAY)["total"]["estimated_cost_usd"] == pytest.approx(0.25 + 0.5000025 + 0.125)


def test_cached_tokens_are_summed_and_cost_less(client: FlaskClient) -> None:
    said = {
        "session_id": "s",
        "prompt": "1",
        "started_at": at(1),
        "model": "claude-3-5-sonnet",
        "provider": "anthropic",
    }
    log(client, **said, input_tokens=1000, output_tokens=10, cached_input_tokens=500, cache_write_tokens=400)
    # as the provider counts them, apart from the input
    log(client, **said, input_tokens=100, output_tokens=10, cached_input_tokens=500, cache_write_tokens=400)
    log(client, **said, input_tokens=7, output_tokens=1, reasoning_tokens=9, cost_usd=0.5)
    total = overview(client, **DAY)["total"]
    assert {name: total[name] for name in total if name.endswith("_tokens")} == {
        "input_tokens": 1107, "output_tokens": 21, "cached_input_tokens": 1000, "cache_write_tokens": 800,
        "reasoning_tokens": 9,
    }  # fmt: skip
    assert total["estimated_cost_usd"] == pytest.approx(2 * (0.00195 + 0.00015))


def test_each_interaction_has_the_price_of_its_time(client: FlaskClient) -> None:
    said = {"session_id": "s", "prompt": "1", "model": "o3", "provider": "openai", "input_tokens": 1_000_000}
    log(client, **said, started_at="2025-06-09T23:59:59Z")
    log(client, **said, started_at="2025-06-10T00:00:00Z")
    found = overview(client, **{"from": "2025-06-01T00:00:00Z", "to": "2025-07-01T00:00:00Z"})
    assert found["total"]["estimated_cost_usd"] == 10 + 2


def test_sums_cost_what_their_interactions_cost_one_by_one(client: FlaskClient) -> None:
    """Whatever is sent of the tokens: the database groups and adds what `Prices.estimate` says of each."""
    chance = random.Random(20261120)
    models = ["gpt-4o", "claude-3-5-sonnet", "gemini-2.5-pro", "o3", "sonar-pro", "own", None]
    names = ("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "reasoning_tokens")
    sent: list[dict[str, Any]] = []
    for n in range(300):
        tokens = {name: chance.choice([None, 0, 1, 7, 1000, 199_999, 250_000]) for name in names}
        began = f"2026-{chance.randint(1, 11):02}-15T12:00:00Z"
        sent.append(
            {"session_id": f"s{n % 7}", "prompt": "p", "model": chance.choice(models), "started_at": began} | tokens
        )
    for n in range(7):
        create(client, session_id=f"s{n}", user_id=f"user {n % 3}")
    assert client.post("/v1/interactions/batch", json={"interactions": sent}).status_code == 200
    year = {"from": "2026-01-01T00:00:00Z", "to": "2026-12-01T00:00:00Z", "by": "day"}
    estimates = [
        Prices().estimate(each["model"], None, cast("TokensOfCall", each), datetime.fromisoformat(each["started_at"]))
        for each in sent
    ]
    known = [each for each in estimates if each is not None]
    found = overview(client, **year)
    assert found["total"]["estimated_cost_usd"] == pytest.approx(float(sum(known)))
    assert found["total"]["without_cost"] == len(sent) - len(known)
    usage = client.get("/v1/usage", query_string={"from": year["from"], "to": year["to"]}).get_json()
    assert usage["total"]["estimated_cost_usd"] == pytest.approx(float(sum(known)))
    of_users = sum(user["estimated_cost_usd"] for user in usage["users"])
    assert of_users == pytest.approx(sum(user["estimated_cost_usd"] for user in found["users"]))
    assert of_users == pytest.approx(float(sum(known)))


def test_who_is_active_and_where(client: FlaskClient) -> None:
    client.post("/v1/folders", json={"folder_id": "f", "name": "Lessons"})
    for user, turns in {"ada": 3, "bob": 1, "مريم": 2}.items():
        create(client, session_id=user, user_id=user, folder_id="f" if user == "ada" else None, started_at=at(1))
        create(client, session_id=f"{user} 2", user_id=user, started_at=at(1))
        for n in range(turns):
            log(client, session_id=user, prompt=str(n), started_at=at(1))
        log(client, session_id=f"{user} 2", prompt="Hello", started_at=at(1))
    log(client, session_id="nobody's", prompt="Hello", started_at=at(1))
    told = overview(client, **DAY)
    users = [(user["user_id"], user["interactions"], user["sessions"]) for user in told["users"]]
    assert users == [("ada", 4, 2), ("مريم", 3, 2), ("bob", 2, 2)]
    (folder,) = told["folders"]
    assert (folder["key"], folder["name"], folder["interactions"], folder["sessions"]) == ("f", "Lessons", 3, 1)


def test_each_user_has_tokens_and_a_cost(client: FlaskClient) -> None:
    for session, user in (("a", "ada"), ("b", "ada"), ("c", "bob"), ("d", None)):
        create(client, session_id=session, user_id=user, started_at=at(1))
    said = {"prompt": "1", "started_at": at(1), "output_tokens": 0}
    log(client, **said, session_id="a", model="gpt-4o", input_tokens=1_000_000)
    log(client, **said, session_id="a", model="gpt-4o", input_tokens=1_000_000, cached_input_tokens=1_000_000)
    log(client, **said, session_id="b", model="claude-3-5-sonnet", input_tokens=1_000_000)
    log(client, **said, session_id="b", model="own", input_tokens=5)
    log(client, **said, session_id="c", model="own", input_tokens=7, cost_usd=0.5)
    log(client, **said, session_id="d", model="gpt-4o", input_tokens=1_000_000)
    assert overview(client, **DAY)["users"] == [
        {
            "user_id": "ada", "interactions": 4, "sessions": 2, "input_tokens": 3_000_005, "output_tokens": 0,
            "cached_input_tokens": 1_000_000, "cache_write_tokens": 0, "reasoning_tokens": 0,
            "cost_usd": None, "estimated_cost_usd": 2.5 + 1.25 + 3, "without_cost": 1,
        },
        {
            "user_id": "bob", "interactions": 1, "sessions": 1, "input_tokens": 7, "output_tokens": 0,
            "cached_input_tokens": 0, "cache_write_tokens": 0, "reasoning_tokens": 0,
            "cost_usd": 0.5, "estimated_cost_usd": 0, "without_cost": 0,
        },
    ]  # fmt: skip


def test_errors_of_one_kind_are_counted_together(client: FlaskClient) -> None:
    for n in range(3):
        log(client, session_id="s", prompt="1", error=f"HTTP 500, request 7f3a9c2{n}-11", started_at=at(1))
    log(client, session_id="s", prompt="1", error="HTTP 429: wait 20 s", started_at=at(1))
    log(
        client,
        session_id="s",
        prompt="1",
        error="HTTP 429: wait 20 s",
        response="2",
        status="completed",
        started_at=at(1),
    )
    log(client, session_id="s", prompt="1", status="failed", started_at=at(1))
    told = overview(client, **DAY)
    assert told["errors"] == [
        {"error": "HTTP 500, request …", "interactions": 3},
        {"error": "HTTP 429: wait 20 s", "interactions": 1},
        {"error": None, "interactions": 1},
    ]
    assert told["total"]["failed"] == 5


def test_what_was_erased_is_not_counted(client: FlaskClient) -> None:
    create(client, session_id="s", user_id="ada", started_at=at(1))
    log(client, session_id="s", prompt="1", error="Timeout", started_at=at(1))
    client.delete(in_path("s"))
    told = overview(client, **DAY)
    assert (told["total"]["interactions"], told["total"]["failed"], told["total"]["sessions"]) == (0, 0, 0)
    assert told["users"] == told["errors"] == []


def test_what_is_being_erased_is_not_counted(client: FlaskClient, backend: Backend) -> None:
    create(client, session_id="kept", user_id="bob", started_at=at(1))
    create(client, session_id="s", user_id="ada", started_at=at(1))
    for session, error in (("kept", "Refused"), ("s", "ada's own words"), ("s", None), ("s", "Timeout")):
        log(client, session_id=session, prompt="1", error=error, model=session, started_at=at(1))
    backend.cut_erasing("s")
    told = overview(client, **DAY)
    assert (told["total"]["interactions"], told["total"]["failed"], told["total"]["sessions"]) == (1, 1, 1)
    assert [user["user_id"] for user in told["users"]] == ["bob"]
    assert [use["model"] for use in told["models"]] == ["kept"]
    assert [error["error"] for error in told["errors"]] == ["Refused"]


def test_another_project_is_not_counted(client: FlaskClient, store: Store) -> None:
    log(client, session_id="s", prompt="1", started_at=at(1))
    asked = {
        "from": DAY["from"], "to": DAY["to"], "buckets": HOURS, "most": 10, "sample": 10, "most_failures": 10,
        "top": 10, "top_models": 10, "tiers": [], "eras": [],
    }  # fmt: skip
    assert ask(store, ops.OVERVIEW, PROJECT, asked)["interactions"]["total"]["interactions"] == 1
    assert ask(store, ops.OVERVIEW, "shop", asked)["interactions"]["total"]["interactions"] == 0


@pytest.fixture
def many(backend: Backend) -> int:
    """Store 24,000 interactions of a day, more of them in the afternoon, and 6 that failed."""
    with psycopg.connect(backend.database, autocommit=True) as connection:
        connection.execute(
            "insert into turnlog.ai_sessions (project, id, user_id, created_at)"
            " select %s, md5(n::text)::uuid, 'user ' || n %% 3, '2026-11-20'::timestamptz + n * interval '1 minute'"
            " from generate_series(0, 1439) as n",
            [PROJECT],
        )
        connection.execute(
            "insert into turnlog.ai_interactions"
            " (project, session_id, id, error, model, input_tokens, latency_ms, created_at)"
            " select %s, md5((n %% 1440)::text)::uuid, md5('i' || n)::uuid, case when n %% 4000 = 0 then 'Timeout' end,"
            " 'gpt-4o', 100, n %% 100, '2026-11-20'::timestamptz + sqrt(n / 24000.0) * interval '1 day'"
            " from generate_series(0, 23999) as n",
            [PROJECT],
        )
    return 24_000


@pytest.mark.own_database
def test_of_very_many_a_sample_is_looked_at_and_counted_up(store: Store, many: int) -> None:
    asked = {
        "from": DAY["from"], "to": DAY["to"], "buckets": HOURS, "most": 10_000, "sample": 4_000, "most_failures": 10,
        "top": 10, "top_models": 10, "tiers": [], "eras": [],
    }  # fmt: skip
    found = ask(store, ops.OVERVIEW, PROJECT, asked)
    share, total = found["interactions"]["share"], found["interactions"]["total"]
    assert share == pytest.approx(4_000 / many, rel=0.1)
    assert total["interactions"] / share == pytest.approx(many, rel=0.05)
    assert total["latency_ms"] == [pytest.approx(50, abs=4), pytest.approx(95, abs=2)]
    noon = found["interactions"]["buckets"][12]
    assert noon["interactions"] / share == pytest.approx(many * (13**2 - 12**2) / 24**2, rel=0.1)
    # what is rare isn't sampled, nor what is little
    assert found["failures"]["share"] == found["sessions"]["share"] == 1
    assert found["failures"]["total"] == 6
    assert found["sessions"]["total"] == 1440
    assert ask(store, ops.OVERVIEW, PROJECT, asked) == found
    assert (
        ask(store, ops.OVERVIEW, PROJECT, asked | {"most": 2 * many})["interactions"]["total"]["interactions"] == many
    )


@pytest.mark.own_database
def test_an_answer_of_a_sample_is_counted_up_and_says_so(
    client: FlaskClient, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = overview(client, **DAY)
    assert exact["looked_at"]["interactions"] == 1
    monkeypatch.setattr("conversation.api.overview._MOST_ROWS", 10_000)
    monkeypatch.setattr("conversation.api.overview._SAMPLE", 4_000)
    sampled = overview(client, **DAY)
    assert 0 < sampled["looked_at"]["interactions"] < 0.25
    for name in ("interactions", "input_tokens", "estimated_cost_usd", "pending"):
        assert sampled["total"][name] == pytest.approx(exact["total"][name], rel=0.05)
    assert sampled["total"]["failed"] == 6
    assert sum(bucket["interactions"] for bucket in sampled["buckets"]) == pytest.approx(many, rel=0.05)
    assert {user["user_id"] for user in sampled["users"]} == {"user 0", "user 1", "user 2"}
    assert {user["sessions"] for user in sampled["users"]} == {None}  # a share meets more than its share of them


@pytest.mark.parametrize(
    ("query", "first", "last", "parts"),
    [
        ({}, "2026-11-20T07:00", "2026-11-21T07:00", 24),
        ({"span": "24h"}, "2026-11-20T07:00", "2026-11-21T07:00", 24),
        ({"span": "7d"}, "2026-11-15T00:00", "2026-11-22T00:00", 7),
        ({"span": "7d", "by": "hour"}, "2026-11-14T07:00", "2026-11-21T07:00", 168),
        ({"span": "30d"}, "2026-10-23T00:00", "2026-11-22T00:00", 30),
        ({"span": "90d"}, "2026-08-24T00:00", "2026-11-22T00:00", 90),
        ({"from": "2026-11-20T01:30:00Z"}, "2026-11-20T01:30", "2026-11-21T06:30", 29),
        (
            {"from": "2026-11-20T01:30:00Z", "to": "2026-11-20T02:30:00+00:00"},
            "2026-11-20T01:30",
            "2026-11-20T02:30",
            1,
        ),
        ({"from": "2026-11-01T01:30:00Z", "to": "2026-11-08T02:30:00Z"}, "2026-11-01T01:30", "2026-11-08T02:30", 8),
    ],
)
def test_a_span_is_cut_into_parts(query: dict[str, str], first: str, last: str, parts: int) -> None:
    span = parse_span(OverviewQuery.model_validate(query), NOW)
    assert [time.isoformat(timespec="minutes")[:16] for time in (span.not_before, span.before)] == [first, last]
    buckets = span.buckets()
    assert len(buckets) == parts
    assert buckets[0] == span.not_before
    assert buckets[-1] < span.before <= buckets[-1] + timedelta(seconds=span.bucket_s)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"span": "1h"}, "?span"),
        ({"by": "minute"}, "?by"),
        ({"to": at(1)}, "?to"),
        ({"from": at(1), "to": at(1)}, "?to"),
        ({"from": "2999-01-01T00:00:00Z"}, "?from"),
        ({"span": "7d", "from": at(1)}, "?span"),
        ({"from": "2020-01-01T00:00:00Z", "by": "day"}, "?from"),
        ({"span": "90d", "by": "hour"}, "?by"),
        ({"from": "yesterday"}, "?from"),
        ({"user_id": "ada"}, "?user_id"),
    ],
)
def test_a_span_that_makes_no_sense_is_refused(client: FlaskClient, query: dict[str, str], names: str) -> None:
    assert paths(client.get("/v1/overview", query_string=query)) == [names]
