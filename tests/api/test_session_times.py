"""A session that states no start began with its earliest turn: in lists, spans, overviews and exports."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient

from conversation.archive import exporting
from logging_store import operations as ops
from logging_store.log_reader import NamedSessionFilters
from logging_store.records import identity
from logging_store.repository import ConversationRepository
from tests.conftest import PROJECT, Backend
from tests.http_calls import create, in_path, log

MAY: NamedSessionFilters = {"from": "2025-05-01T00:00:00Z", "to": "2025-05-02T00:00:00Z"}

pytestmark = pytest.mark.every_store


def started(client: FlaskClient, name: str) -> str | None:
    found: str | None = client.get(in_path(name)).get_json()["started_at"]
    return found and found.removesuffix("+00:00")


def listed(client: FlaskClient, **query: Any) -> list[str]:
    answer = client.get("/v1/sessions", query_string=query).get_json()
    if query.get("sort") != "activity":
        counted = client.get("/v1/sessions", query_string={**query, "count": "true"}).get_json()["matching"]
        assert counted == {"sessions": len(answer["sessions"]), "complete": True}
    return [session["key"] for session in answer["sessions"]]


def began_in_may(client: FlaskClient) -> int:
    total = client.get("/v1/overview", query_string=MAY | {"by": "hour"}).get_json()
    assert total["total"]["sessions"] == sum(bucket["sessions"] for bucket in total["buckets"])
    return int(total["total"]["sessions"])


def exported(repository: ConversationRepository, filters: NamedSessionFilters) -> list[ops.Session]:
    items = exporting.export_sessions(repository, filters)
    return [item.session for item in items if item.session]


def test_an_old_conversation_that_is_logged_today_is_on_its_day(
    client: FlaskClient, repository: ConversationRepository
) -> None:
    log(client, session_id="old", interaction_id="1", prompt="p", response="r", started_at="2025-05-01T00:00:00Z")
    log(client, session_id="today", prompt="p")
    create(client, session_id="empty")
    assert listed(client, name="old", **MAY) == listed(client, **MAY) == ["old"]
    assert started(client, "old") == "2025-05-01T00:00:00"
    assert started(client, "empty") is None
    assert listed(client) == ["empty", "today", "old"]
    assert listed(client, sort="oldest") == ["old", "today", "empty"]
    assert began_in_may(client) == 1
    (session,) = exported(repository, MAY)
    assert (session["key"], session["started_at"]) == ("old", None), "an export only has a start that was sent"


def test_the_earliest_turn_counts_in_whatever_order_turns_arrive(client: FlaskClient) -> None:
    create(client, session_id="s")
    at = {
        "2": "2025-05-01T10:00:02",
        "1": "2025-05-01T10:00:01",
        "3": "2025-05-01T10:00:03",
        "0": "2025-05-01T10:00:00",
    }
    seen = []
    for name, time in at.items():
        log(client, session_id="s", interaction_id=name, prompt=name, started_at=f"{time}Z")
        seen.append(started(client, "s"))
    assert seen == [at["2"], at["1"], at["1"], at["0"]]
    batch = [{"session_id": "b", "prompt": name, "started_at": f"{time}Z"} for name, time in at.items()]
    client.post("/v1/interactions/batch", json={"interactions": batch})
    assert started(client, "b") == at["0"]


def test_a_start_that_is_filled_in_later_counts(client: FlaskClient) -> None:
    log(client, session_id="s", interaction_id="1", prompt="p")
    log(client, session_id="s", interaction_id="2", prompt="p", started_at="2025-05-01T12:00:00Z")
    log(client, session_id="s", interaction_id="1", started_at="2025-05-01T11:00:00Z", response="r")
    assert started(client, "s") == "2025-05-01T11:00:00"
    assert listed(client, **MAY) == ["s"]
    assert began_in_may(client) == 1


def test_a_start_that_contradicts_moves_nothing(client: FlaskClient) -> None:
    same = {"session_id": "s", "interaction_id": "1", "prompt": "p"}
    times = ["2025-05-01T11:00:00Z", "2025-05-01T10:00:00Z"]
    answer = client.post("/v1/interactions/batch", json={"interactions": [same | {"started_at": at} for at in times]})
    assert [one["receipt"] for one in answer.get_json()["receipts"]] == ["created", "conflict"]
    assert log(client, **same, started_at="2025-05-01T09:00:00Z").status_code == 409
    assert started(client, "s") == "2025-05-01T11:00:00"


def test_a_start_that_is_sent_wins(client: FlaskClient, repository: ConversationRepository) -> None:
    log(client, session_id="s", prompt="p", started_at="2025-05-01T11:00:00Z")
    create(client, session_id="s", started_at="2025-04-30T00:00:00Z")
    log(client, session_id="s", prompt="p", started_at="2025-04-01T00:00:00Z")
    assert started(client, "s") == "2025-04-30T00:00:00"
    assert listed(client, **MAY) == []
    assert [session["started_at"] for session in exported(repository, {})] == ["2025-04-30T00:00:00+00:00"]


def test_a_planned_session_begins_with_its_first_turn(client: FlaskClient) -> None:
    plan = {"sessions_per_week": 1, "total_weeks": 2, "starts_on": "2025-04-28"}
    client.post("/v1/folders", json={"folder_id": "ann", "plan": plan})
    first = identity.numbered_session(PROJECT, identity.folder(PROJECT, "ann").id, 1).id
    log(client, session_id=first, prompt="p", started_at="2025-05-01T11:00:00Z")
    assert started(client, first) == "2025-05-01T11:00:00"
    page = client.get("/v1/sessions", query_string={"folder": "ann", **MAY}).get_json()["sessions"]
    assert [session["session_id"] for session in page] == [first]


def test_a_clock_that_is_ahead_does_not_begin_a_session_later(client: FlaskClient) -> None:
    log(client, session_id="s", prompt="p", started_at="2100-01-01T00:00:00Z")
    assert client.get(in_path("s")).status_code == 404, "refused: more than a day ahead"
    create(client, session_id="s")
    log(client, session_id="s", prompt="p", started_at=(datetime.now(UTC) + timedelta(hours=5)).isoformat())
    assert datetime.fromisoformat(client.get(in_path("s")).get_json()["started_at"]) <= datetime.now(UTC)


def test_an_erased_turn_keeps_its_time(client: FlaskClient) -> None:
    for hour in (10, 11):
        log(client, session_id="s", interaction_id=str(hour), prompt="p", started_at=f"2025-05-01T{hour}:00:00Z")
    assert client.delete(in_path("s") + "/interactions/10").status_code == 200
    assert started(client, "s") == "2025-05-01T10:00:00"


def test_a_tombstone_has_no_start(client: FlaskClient, backend: Backend) -> None:
    log(client, session_id="s", prompt="p", started_at="2025-05-01T10:00:00Z")
    client.delete(in_path("s"))
    with psycopg.connect(backend.database) as connection:
        rows = connection.execute("select started_at, earliest_turn_at from turnlog.ai_sessions").fetchall()
    assert rows == [(None, None)]
    assert listed(client, **MAY) == []
    assert began_in_may(client) == 0
