"""Lists of sessions: every filter, every order, and how far a call looks."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient

from logging_store.records import identity
from logging_store.repository import ConversationRepository
from tests.conftest import PROJECT, Backend
from tests.http_calls import create, in_path, log, paths

BETWEEN = {"from": "2026-11-01T00:00:00Z", "to": "2026-11-09T00:00:00Z"}


def pages(client: FlaskClient, **query: Any) -> Iterator[dict[str, Any]]:
    while True:
        answer = client.get("/v1/sessions", query_string=query)
        assert answer.status_code == 200, answer.text
        yield answer.get_json()
        if answer.get_json()["next"] is None:
            return
        query["cursor"] = answer.get_json()["next"]


def listed(client: FlaskClient, **query: Any) -> str:
    """Return the keys that a query finds, each one character, in their order; with pages of every size the same."""
    found = {
        "".join(session["key"] for page in pages(client, limit=limit, **query) for session in page["sessions"])
        for limit in (1, 2, 100)
    }
    (keys,) = found
    told = client.get("/v1/sessions", query_string={**query, "count": "true", "limit": 1}).get_json()["matching"]
    assert told == {"sessions": len(keys), "complete": True} or query.get("sort") == "activity"
    return keys


@pytest.fixture
def logged(client: FlaskClient) -> FlaskClient:
    """Return a client of a log with the sessions a to f, the later ones newer; g came along with its interaction."""
    for n, key in enumerate("abcdef"):
        create(
            client,
            session_id=key,
            user_id="ada" if key in "ace" else "bob",
            title=f"Über {key.upper()} 100%" if key in "ab" else None,
            tags=["rare"] if key in "cd" else None,
            folder_id="shelf" if key in "bdf" else None,
            started_at=f"2026-11-0{n + 1}T00:00:00Z",
        )
    for key, model, error in ("c", "m", None), ("a", "m", "timed out"), ("e", "n", None), ("a", "n", None):
        log(client, session_id=key, prompt="Hello", model=model, error=error)
    log(client, session_id="e", prompt="Hello", model="m", error="late", status="completed")
    log(client, session_id="d", prompt="Hello", status="failed", started_at="2026-11-05T00:00:00Z")
    log(client, session_id="g", prompt="Hello")
    client.patch(in_path("f"), json={"status": "closed"})
    return client


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ({}, "gfedcba"),
        ({"sort": "oldest"}, "abcdefg"),
        # by when their last interaction arrived, whatever times it states; b and f have none
        ({"sort": "activity"}, "gdeac"),
        ({"user_id": "ada"}, "eca"),
        ({"user_id": "ada", "sort": "oldest"}, "ace"),
        ({"folder": "shelf"}, "fdb"),
        ({"folder": identity.folder(PROJECT, "shelf").id.upper()}, "fdb"),
        ({"folder": "none such"}, ""),
        ({"folder": "shelf", "user_id": "ada"}, ""),
        ({"folder": "shelf", "user_id": "bob", "status": "open"}, "db"),
        ({"tag": "rare"}, "dc"),
        ({"tag": "rare", "user_id": "ada"}, "c"),
        ({"status": "closed"}, "f"),
        ({"model": "m"}, "eca"),
        ({"model": "m", "sort": "oldest"}, "ace"),
        ({"model": "m", "sort": "activity"}, "eac"),
        ({"model": "n", "has_errors": "true"}, "a"),
        ({"model": "M"}, ""),
        ({"has_errors": "true"}, "da"),
        ({"has_errors": "false"}, "gfecb"),
        ({"has_errors": "true", "sort": "activity"}, "da"),
        ({"implicit": "true"}, "g"),
        ({"implicit": "false", "folder": "shelf"}, "fdb"),
        ({"implicit": "true", "status": "open"}, "g"),
        ({"name": "ÜBER"}, "ba"),
        ({"name": "0%"}, "ba"),
        ({"name": "%"}, "ba"),
        ({"name": "_"}, ""),
        ({"name": "A 1"}, "a"),
        ({"name": "E"}, "eba"),
        (BETWEEN, "fedcba"),
        ({**BETWEEN, "sort": "oldest", "user_id": "bob"}, "bdf"),
        ({"to": "2026-11-03T00:00:00Z", "model": "m"}, "a"),
        ({**BETWEEN, "sort": "activity"}, "deac"),
    ],
)
def test_each_filter_in_each_order(logged: FlaskClient, query: dict[str, str], keys: str) -> None:
    assert listed(logged, **query) == keys


def test_who_created_a_session_that_came_along_is_told_no_longer(logged: FlaskClient) -> None:
    assert listed(logged, implicit="true") == "g"
    create(logged, session_id="g")
    assert listed(logged, implicit="true") == ""


def test_a_session_is_listed_once_by_its_last_arrival(client: FlaskClient) -> None:
    for key in "abcabca":
        log(client, session_id=key, prompt="Hello")
    assert listed(client, sort="activity") == "acb"
    log(client, session_id="b", prompt="Hello")
    assert listed(client, sort="activity") == "bac"


def test_sessions_tell_how_many_interactions_failed(logged: FlaskClient) -> None:
    counts = {row["key"]: row["failed_count"] for page in pages(logged) for row in page["sessions"]}
    assert counts == {"a": 1, "b": 0, "c": 0, "d": 1, "e": 0, "f": 0, "g": 0}


@pytest.mark.parametrize("name", ["has_errors", "implicit", "count"])
def test_a_flag_is_true_or_false(client: FlaskClient, name: str) -> None:
    for value in ("", "1", "yes", "TRUE", "null"):
        answer = client.get("/v1/sessions", query_string={name: value})
        assert (answer.status_code, paths(answer)) == (422, [f"?{name}"])
    for other, value in (("sort", "Newest"), ("sort", ""), ("folder", ""), ("folder", "null")):
        answer = client.get("/v1/sessions", query_string={other: value})
        assert (answer.status_code, paths(answer)) == (422, [f"?{other}"])


@pytest.mark.parametrize("sort", ["newest", "oldest", "activity"])
def test_an_erased_session_is_in_no_list(logged: FlaskClient, sort: str) -> None:
    logged.delete(in_path("a"))
    assert "a" not in listed(logged, sort=sort)
    assert "a" not in listed(logged, sort=sort, has_errors="true")


# More sessions than one call looks at, of which only the oldest and one in the middle have what is looked for.
_MANY = """
insert into turnlog.ai_sessions (project, id, key, tags, title, created_at, implicit)
select project, md5(project || n)::uuid, n::text, array['common'],
       case when n in (1, 25000) then 'needle' else 'hay' end,
       now() - interval '1 year' + n * interval '1 second', false
  from unnest(array['default', 'other']) as p (project), generate_series(1, 40000) as n;
insert into turnlog.ai_interactions (project, session_id, id, model, error, created_at)
select 'default', md5('default' || n)::uuid, md5('i' || n)::uuid,
       case when n > 20000 and n <> 39999 then 'new' else 'old' end, case when n in (5, 7) then 'failed' end,
       now() - interval '1 year' + n * interval '1 second'
  from generate_series(1, 40000) as n;
analyze turnlog.ai_sessions, turnlog.ai_interactions;
"""


@pytest.fixture
def many(backend: Backend, repository: ConversationRepository) -> ConversationRepository:
    with psycopg.connect(backend.database, autocommit=True) as connection:
        connection.execute(_MANY)
    return repository


def walked(log: ConversationRepository, **query: Any) -> tuple[list[str], int]:
    """Return the keys that a query finds with pages of ten, and how many calls that took."""
    found: list[str] = []
    calls, after = 0, None
    while True:
        asked: Any = {"limit": 10, "after": after, **query}
        page = log.sessions(asked)
        found += [str(row["key"]) for row in page["sessions"]]
        calls, after = calls + 1, page["after"]
        if after is None:
            return found, calls


@pytest.mark.own_database
def test_a_call_looks_some_way_and_the_next_one_goes_on(many: ConversationRepository) -> None:
    assert walked(many, name="needle") == (["25000", "1"], 2)
    assert walked(many, name="needle", sort="oldest") == (["1", "25000"], 2)
    assert walked(many, name="nothing") == ([], 2)
    # the old model is in too many sessions to look at all of them, and in few of the newest
    page = many.sessions({"limit": 10, "model": "old"})
    assert [row["key"] for row in page["sessions"]] == ["39999"]
    assert page["after"] is not None
    found, _ = walked(many, model="old", limit=1000)
    assert found == ["39999", *map(str, range(20000, 0, -1))]


@pytest.mark.own_database
def test_what_is_rare_is_found_in_one_call_however_old_it_is(many: ConversationRepository) -> None:
    assert walked(many, has_errors=True) == (["7", "5"], 1)
    assert walked(many, has_errors=True, sort="oldest") == (["5", "7"], 1)
    assert walked(many, has_errors=True, sort="activity") == (["7", "5"], 1)
    assert walked(many, has_errors=True, model="new") == ([], 1)
    assert walked(many, tag="none") == ([], 1)
    assert walked(many, user_id="nobody", sort="activity") == ([], 1)
    assert walked(many, to="2020-01-01T00:00:00Z", sort="activity") == ([], 1)


@pytest.mark.own_database
def test_a_count_says_whether_it_is_all(many: ConversationRepository) -> None:
    assert many.count_sessions({}) == {"sessions": 10_000, "complete": False}
    assert many.count_sessions({"has_errors": True}) == {"sessions": 2, "complete": True}
    assert many.count_sessions({"model": "old"}) == {"sessions": 1, "complete": False}
    assert many.count_sessions({"tag": "common"}) == {"sessions": 10_000, "complete": False}
    assert many.count_sessions({"name": "nothing"}) == {"sessions": 0, "complete": False}
    assert many.count_sessions({"user_id": "nobody"}) == {"sessions": 0, "complete": True}


@pytest.mark.own_database
def test_by_activity_a_long_list_is_whole(many: ConversationRepository) -> None:
    found, _ = walked(many, sort="activity", limit=1000)
    assert found == [str(n) for n in range(40000, 0, -1)]
