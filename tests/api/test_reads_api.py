"""Lists and transcripts over HTTP: filtered, in order, and paged by cursors that can't be abused."""

import base64
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.http_calls import create, in_path, log, paths


def pages(client: FlaskClient, path: str, **query: Any) -> Iterator[dict[str, Any]]:
    while True:
        answer = client.get(path, query_string=query)
        assert answer.status_code == 200, answer.get_data()
        yield answer.get_json()
        if answer.get_json()["next"] is None:
            return
        query["cursor"] = answer.get_json()["next"]


def listed(client: FlaskClient, **query: Any) -> list[str]:
    return [session["key"] for page in pages(client, "/v1/sessions", **query) for session in page["sessions"]]


@pytest.mark.parametrize("limit", [1, 2, 6, 7, 1000])
def test_a_transcript_is_paged_without_gaps_or_repeats(client: FlaskClient, limit: int) -> None:
    turns = [3, None, 1, 2**53, 2, None, 2]
    for n, turn in enumerate(turns):
        log(client, session_id="s", prompt=str(n), turn=turn, started_at=f"2026-11-21T06:30:0{n}.5Z")
    read = list(pages(client, f"{in_path('s')}/interactions", limit=limit))
    assert [each["prompt"] for page in read for each in page["interactions"]] == ["2", "4", "6", "0", "3", "1", "5"]
    assert [len(page["interactions"]) for page in read[:-1]] == [limit] * (len(read) - 1)


def test_without_turns_a_transcript_is_in_the_order_of_arrival(client: FlaskClient) -> None:
    for n in range(5):
        log(client, session_id="s", prompt=str(n))
    read = pages(client, f"{in_path('s')}/interactions", limit=2)
    assert [each["prompt"] for page in read for each in page["interactions"]] == list("01234")


@pytest.mark.every_store
@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_what_was_said_at_one_time_is_in_the_order_of_arrival(client: FlaskClient, limit: int) -> None:
    first = [{"session_id": "s", "prompt": str(n), "started_at": "2026-03-01T10:00:00Z"} for n in range(8)]
    client.post("/v1/interactions/batch", json={"interactions": first})
    log(client, session_id="s", prompt="8", started_at="2026-03-01T10:00:00Z")
    log(client, session_id="s", prompt="earlier", started_at="2026-03-01T09:59:59.999999Z")
    read = pages(client, f"{in_path('s')}/interactions", limit=limit)
    assert [each["prompt"] for page in read for each in page["interactions"]] == ["earlier", *map(str, range(9))]


@pytest.mark.every_store
def test_a_clock_that_is_ahead_pins_nothing_to_the_end(client: FlaskClient) -> None:
    ahead = (datetime.now(UTC) + timedelta(hours=20)).isoformat()
    log(client, session_id="s", interaction_id="i", prompt="0")
    log(client, session_id="s", prompt="1", started_at=ahead)
    log(client, session_id="s", prompt="2")
    log(client, session_id="s", prompt="3", started_at=datetime.now(UTC).isoformat())
    log(client, session_id="s", interaction_id="i", started_at=ahead, response="filled in later")
    read = pages(client, f"{in_path('s')}/interactions", limit=1)
    assert [each["prompt"] for page in read for each in page["interactions"]] == list("0123")


def test_a_cursor_of_an_older_release_leaves_nothing_out(client: FlaskClient) -> None:
    for n in range(3):
        log(client, session_id="s", prompt=str(n), started_at=f"2026-03-01T10:00:0{n}Z")
    path = f"{in_path('s')}/interactions"
    cursor = client.get(f"{path}?limit=2").get_json()["next"]
    assert len(cursor) == 14 + 15 + 15 + 32 + 32
    page = client.get(f"{path}?cursor={cursor[:29]}{cursor[44:76]}").get_json()
    assert [each["prompt"] for each in page["interactions"]] == ["1", "2"]


def test_the_list_is_newest_first_and_filtered(client: FlaskClient) -> None:
    for n in range(7):
        create(
            client,
            session_id=str(n),
            user_id="ada" if n % 2 else "bob",
            tags=["even", "ü 日"] if n % 2 == 0 else None,
            started_at=f"2026-11-0{n + 1}T00:00:00Z",
        )
    client.patch(in_path("4"), json={"status": "closed"})
    client.delete(in_path("6"))
    assert listed(client, limit=2) == ["5", "4", "3", "2", "1", "0"]
    assert listed(client, limit=1, user_id="ada") == ["5", "3", "1"]
    assert listed(client, limit=2, tag="even") == listed(client, tag="ü 日") == ["4", "2", "0"]
    assert listed(client, status="closed") == ["4"]
    assert listed(client, **{"from": "2026-11-02T00:00:00Z", "to": "2026-11-04T00:00:00Z"}) == ["2", "1"]
    assert listed(client, **{"from": "2026-11-02T01:00:00+01:00", "to": "2026-11-04T00:00:00Z"}) == ["2", "1"]
    assert listed(client, user_id="ada", status="open", to="2026-11-04T00:00:00Z") == ["1"]
    assert listed(client, user_id="", tag="odd") == []
    plus_as_it_is = client.get("/v1/sessions?from=2026-11-05T01:00:00+01:00").get_json()["sessions"]
    assert [session["key"] for session in plus_as_it_is] == ["5", "4"]


def test_a_page_that_ends_where_the_list_ends_has_no_next(client: FlaskClient) -> None:
    for n in range(4):
        create(client, session_id=str(n))
    assert [len(page["sessions"]) for page in pages(client, "/v1/sessions", limit=2)] == [2, 2]
    assert list(pages(client, "/v1/sessions", user_id="nobody")) == [{"sessions": [], "next": None}]


def test_sessions_that_come_while_paging_neither_repeat_nor_hide_others(client: FlaskClient) -> None:
    for n in range(4):
        create(client, session_id=str(n))
    seen = []
    for page in pages(client, "/v1/sessions", limit=2):
        seen += [session["key"] for session in page["sessions"]]
        create(client, session_id=f"late {len(seen)}")
    assert seen == ["3", "2", "1", "0"]


NO_TIMES = [
    "",
    "yesterday",
    "infinity",
    "2026-11-21",
    "2026-11-21T06:30:00",
    "2026-11-21T06:30:00 CET",
    "2026-02-30T00:00:00Z",
    "2026-11-21T24:30:00Z",
    "1899-12-31T23:59:59Z",
    "9000-01-01T00:00:00Z",
    "20261121",
    "1795242600000000",
]
NO_SIZES = ["0", "-1", "1001", "", "x", "1.0", "+1", " 1", "1e2", "٣", "1_0", "99999999999999999999", "1\0"]
NO_QUERIES = {
    "limit": NO_SIZES,
    "from": NO_TIMES,
    "to": NO_TIMES,
    "status": ["", "Open", "pending"],
    "user_id": ["a\0b"],
    "tag": ["\0"],
    "userid": ["ada"],
    "after": ["x"],
}


def test_a_query_that_means_nothing_is_refused_by_name(client: FlaskClient) -> None:
    for name, values in NO_QUERIES.items():
        for value in values:
            answer = client.get("/v1/sessions", query_string={name: value})
            assert (answer.status_code, paths(answer)) == (422, [f"?{name}"]), value


def test_every_fault_of_a_query_is_named(client: FlaskClient) -> None:
    faults = client.get("/v1/sessions?limit=0&status=gone&from=x&x=1")
    repeated = client.get("/v1/sessions?limit=1&limit=2&tag=a&tag=b")
    assert paths(faults) == ["?limit", "?status", "?from", "?x"]
    assert paths(repeated) == ["?limit", "?tag"]


def spelled(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def test_a_tampered_cursor_is_refused_or_harmless(client: FlaskClient) -> None:
    for n in range(3):
        log(client, session_id=str(n), prompt="Hello")
        log(client, session_id="0", prompt="Hello", turn=n)
    lists = {
        "/v1/sessions": client.get("/v1/sessions?limit=1").get_json()["next"],
        f"{in_path('0')}/interactions": client.get(f"{in_path('0')}/interactions?limit=1").get_json()["next"],
    }
    values: list[Any] = [None, 1, [], {}, {"at": 1}, {"at": "x", "session_id": "y"}, {"turn": [], "interaction_id": 1}]
    for path, cursor in lists.items():
        (others,) = (value for key, value in lists.items() if key != path)
        refused = ["", "x", "====", "é", "\0", " ", others, cursor[:-1], f"{cursor}0", cursor.upper(), f"-{cursor[1:]}"]
        refused += [f"{cursor}\n", f" {cursor[1:]}", "٣" * len(cursor), *map(spelled, values)]
        for tampered in refused:
            answer = client.get(path, query_string={"cursor": tampered})
            assert (answer.status_code, paths(answer)) == (422, ["?cursor"]), tampered
        for digit in "0123456789abcdef":
            for tampered in (digit * len(cursor), digit + cursor[1:], cursor[:20] + digit * (len(cursor) - 20)):
                assert client.get(path, query_string={"cursor": tampered}).status_code == 200, tampered


@pytest.mark.slow
@pytest.mark.every_store
def test_a_page_of_large_turns_is_short_and_leads_to_the_rest(client: FlaskClient) -> None:
    photo = base64.b64encode(os.urandom(11_000_000)).decode()  # 14.7 MB, which doesn't compress
    for n in range(4):
        assert (
            log(client, session_id="s", interaction_id=f"i{n}", turn=n, prompt=photo, response="ho").status_code == 201
        )
    first = client.get("/v1/sessions/s/interactions").get_json()
    assert [each["turn"] for each in first["interactions"]] == [0, 1, 2]
    rest = client.get(f"/v1/sessions/s/interactions?cursor={first['next']}").get_json()
    assert [each["turn"] for each in rest["interactions"]] == [3]
    assert rest["next"] is None
    assert client.get("/sessions/s").status_code == 200
