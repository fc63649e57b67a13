"""What people say of an interaction: stored once, and of several statements the latest counts."""

import itertools
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from logging_store import operations as ops
from logging_store.batches import Batch
from logging_store.records.models import Feedback, Interaction, Record, RestoredFeedback, Session
from logging_store.repository import ConversationRepository
from logging_store.store import Store
from tests.conftest import PROJECT, Backend
from tests.http_calls import create, in_path, log, paths, problem
from tests.store_calls import ask

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


def give(client: FlaskClient, interaction: str = "1", session: str = "chat", **fields: Any) -> TestResponse:
    return client.post(f"{in_path(session)}/interactions/{interaction}/feedback", json=fields)


def given_to(client: FlaskClient, session: str = "chat", query: str = "") -> list[dict[str, Any]]:
    answer = client.get(f"{in_path(session)}/feedback{query}")
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.get_json()["feedback"]
    return rows


@pytest.mark.parametrize("value", [True, False, 4, 4.5, -1, 0, 10**12, "👍", "ممتاز", " good "])
def test_a_value_is_read_back_as_it_was_given(client: FlaskClient, value: object) -> None:
    log(client, session_id="chat", interaction_id="1", prompt="Hello")
    answer = give(client, value=value, comment="Because", author="ada", given_at="2025-11-21T06:30:00Z")
    assert answer.status_code == 201, answer.text
    (row,) = given_to(client)
    assert (row["value"], type(row["value"])) == (value, type(value))
    assert (row["interaction_key"], row["author"], row["name"], row["comment"]) == ("1", "ada", "rating", "Because")
    assert datetime.fromisoformat(row["given_at"]) == datetime(2025, 11, 21, 6, 30, tzinfo=UTC)
    assert row["spooled"] is False


def test_the_answer_names_what_was_judged(client: FlaskClient) -> None:
    answer = client.post(
        "/v1/feedback", json={"session_id": "chat", "interaction_id": "1", "name": "score", "value": 5.0}
    )
    assert answer.status_code == 201
    told = answer.get_json()
    assert (told["session_key"], told["interaction_key"], told["author"], told["name"]) == ("chat", "1", None, "score")
    (row,) = given_to(client)
    assert (row["interaction_id"], row["value"], row["author"]) == (told["interaction_id"], 5, None)


def test_it_may_arrive_before_its_interaction_and_its_session(client: FlaskClient) -> None:
    assert give(client, value=True).status_code == 201
    session = client.get(in_path("chat")).get_json()
    assert (session["implicit"], session["interaction_count"]) == (True, 0)
    assert [row["interaction_key"] for row in given_to(client)] == [None]
    assert log(client, session_id="chat", interaction_id="1", prompt="Hello").get_json()["receipt"] == "created"
    assert [row["interaction_key"] for row in given_to(client)] == ["1"]


def test_whoever_changes_their_mind_is_believed(client: FlaskClient) -> None:
    said: list[tuple[dict[str, Any], str, list[str]]] = [
        ({"value": True, "given_at": "2025-11-21T10:00:00Z"}, "created", []),
        ({"value": True, "given_at": "2025-11-21T10:00:00Z"}, "duplicate", []),
        ({"value": False, "comment": "No", "given_at": "2025-11-21T11:00:00Z"}, "filled", ["value", "comment"]),
        ({"value": False, "comment": "No!", "given_at": "2025-11-21T12:00:00Z"}, "filled", ["comment"]),
        ({"value": True, "given_at": "2025-11-21T11:30:00Z"}, "duplicate", []),
        ({"value": False, "comment": "No!", "given_at": "2025-11-21T13:00:00Z"}, "duplicate", []),
        ({"value": True, "given_at": "2025-11-21T12:30:00Z"}, "duplicate", []),
        ({"value": True, "given_at": "2025-11-21T14:00:00Z"}, "filled", ["value", "comment"]),
    ]
    for fields, receipt, changed in said:
        told = give(client, **fields).get_json()
        assert (told["receipt"], told["fields"]) == (receipt, changed), fields
    (row,) = given_to(client)
    assert (row["value"], row["comment"]) == (True, None)


def test_who_states_no_time_means_now(client: FlaskClient) -> None:
    give(client, value=1)
    assert give(client, value=2).get_json()["receipt"] == "filled"
    assert [row["value"] for row in given_to(client)] == [2]


def test_nobody_speaks_from_times_to_come(client: FlaskClient) -> None:
    assert give(client, value=1).status_code == 201
    for ahead in ("2099-01-01T00:00:00Z", (datetime.now(UTC) + timedelta(minutes=30)).isoformat()):
        refused = give(client, value=2, given_at=ahead)
        assert (refused.status_code, paths(refused)) == (422, ["$.given_at"])
        assert "leave it out" in problem(refused, 422)["fields"][0]["detail"]
    assert give(client, value=3).get_json()["receipt"] == "filled"
    assert [row["value"] for row in given_to(client)] == [3]


def test_a_clock_may_be_some_minutes_ahead_and_harms_no_other_record(store: Store) -> None:
    log = ConversationRepository(store, PROJECT, clock=lambda: AT)
    stated = {"session_id": "chat", "interaction_id": "1", "value": True}
    given = [
        Feedback.model_validate({**stated, "name": name, "given_at": (AT + ahead).isoformat()})
        for name, ahead in (("near", timedelta(minutes=5)), ("far", timedelta(minutes=5, seconds=1)))
    ]
    near, far = log.write(given)
    assert (near.receipt.receipt, far.receipt.receipt, far.receipt.fields) == ("created", "rejected", ("given_at",))
    assert [row["name"] for row in log.feedback("chat", {"limit": 10})["feedback"]] == ["near"]
    (restored,) = log.write([says(1, timedelta(days=1), timedelta(0), name="restored")])
    assert restored.receipt.receipt == "created", "as another store had it"


def test_each_author_and_each_name_has_a_word_of_its_own(client: FlaskClient) -> None:
    for author, name in itertools.product(["ada", "bob", None], ["rating", "note"]):
        stated = {"author": author} if author else {}
        assert give(client, name=name, value=f"{author} {name}", **stated).status_code == 201
    assert {(row["author"], row["name"]): row["value"] for row in given_to(client)} == {
        (author, name): f"{author} {name}" for author in ("ada", "bob", None) for name in ("rating", "note")
    }


def says(value: object, given: timedelta, received: timedelta, **more: str | None) -> Record:
    return RestoredFeedback.model_validate(
        {
            "session_id": "chat", "interaction_id": "1", "value": value, "given_at": (AT + given).isoformat(),
            "created_at": (AT + received).isoformat(), **more,
        }
    )  # fmt: skip


MOMENTS = st.integers(0, 3).map(lambda seconds: timedelta(seconds=seconds))
ON_AND_BY = {"interaction_id": st.sampled_from(["1", None]), "author": st.sampled_from([None, "ada"])}
STATEMENTS = st.one_of(
    st.builds(
        says,
        st.sampled_from([True, False, 1, 2, 10, 1.5, "1", "a", "B", "é", "ab"]),
        MOMENTS,
        MOMENTS,
        comment=st.sampled_from([None, "a", "B", "ä"]),
        **ON_AND_BY,
    ),
    st.builds(says, st.none(), MOMENTS, MOMENTS, **ON_AND_BY),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.lists(STATEMENTS, min_size=1, max_size=6),
    random=st.randoms(use_true_random=False),
    again=st.integers(0, 3),
    parted=st.booleans(),
)
def test_any_order_and_any_doubling_leave_the_same(
    store: Store, *, said: list[Record], random: Any, again: int, parted: bool
) -> None:
    def kept(order: list[Record], *, one_by_one: bool) -> list[dict[str, Any]]:
        log = ConversationRepository(store, f"order-{uuid.uuid4()}")
        for batch in [[each] for each in order] if one_by_one else [order]:
            log.write(batch)
        rows = log.feedback("chat", {"limit": 10})["feedback"]
        kept = [{name: value for name, value in row.items() if name != "session_id"} for row in rows]
        return [row | {"interaction_id": row["interaction_id"] is not None} for row in kept]

    other = said + said[:again]
    random.shuffle(other)
    assert kept(other, one_by_one=parted) == kept(said, one_by_one=True)


def test_of_many_who_speak_at_once_the_latest_is_believed(backend: Backend) -> None:
    def speak(lane: int) -> list[str]:
        log = ConversationRepository(backend.open(), PROJECT)
        said = [says(f"{lane} {n}", timedelta(seconds=20 * n + lane), timedelta(0)) for n in range(20)]
        return [kept.receipt.receipt for each in said for kept in log.write([each])]

    with ThreadPoolExecutor(8) as threads:
        receipts = [receipt for lane in threads.map(speak, range(8)) for receipt in lane]
    assert receipts.count("created") == 1
    assert set(receipts) <= {"created", "filled", "duplicate"}
    (row,) = ConversationRepository(backend.open(), PROJECT).feedback("chat", {"limit": 10})["feedback"]
    assert row["value"] == "7 19"


def test_a_batch_tells_of_each_in_its_order(repository: ConversationRepository) -> None:
    hour = timedelta(hours=1)
    kept = repository.write(
        [
            says(1, hour, hour),
            Interaction(session_id="chat", interaction_id="1", prompt="Hello"),
            says(2, 2 * hour, hour),
            Session(session_id="chat", title="T"),
            says(3, 0 * hour, hour),
        ]
    )
    assert [(one.receipt.receipt, one.receipt.fields) for one in kept] == [
        ("created", ()), ("created", ()), ("filled", ("value",)), ("created", ()), ("duplicate", ())
    ]  # fmt: skip


def test_a_list_is_paged_by_cursor(client: FlaskClient) -> None:
    given_by = [(str(n), author) for n in range(3) for author in ("ada", "بوب", "z" * 200)]
    for interaction, author in given_by:
        give(client, interaction, value=interaction, author=author)
    found: list[tuple[str, str]] = []
    cursor = ""
    while True:
        page = client.get(f"{in_path('chat')}/feedback?limit=2{cursor}").get_json()
        assert len(page["feedback"]) <= 2
        found += [(row["value"], row["author"]) for row in page["feedback"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert sorted(found) == sorted(given_by)
    assert {row["author"] for row in given_to(client, query="?interaction=1&limit=2")} < {
        author for _, author in given_by
    }
    assert [row["value"] for row in given_to(client, query="?interaction=1")] == ["1"] * 3


@pytest.mark.parametrize("rest", ["0000", "ffff61", "000161", "0001ff61", "0001000000", "00" * 1602])
def test_a_made_up_cursor_is_some_place(client: FlaskClient, rest: str) -> None:
    give(client, value=1)
    assert len(given_to(client, query=f"?cursor={'0' * 32}{rest}")) == 1
    assert given_to(client, query=f"?cursor={'f' * 32}{rest}") == []


@pytest.mark.parametrize("cursor", ["x", "0" * 32, "0" * 37, "g" * 36])
def test_what_is_no_cursor_is_refused(client: FlaskClient, cursor: str) -> None:
    give(client, value=1)
    assert paths(client.get(f"{in_path('chat')}/feedback?cursor={cursor}")) == ["?cursor"]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({}, "$.value"),
        ({"value": None, "comment": "Why"}, "$.comment"),
        ({"value": []}, "$.value"),
        ({"value": {"a": 1}}, "$.value"),
        ({"value": ""}, "$.value"),
        ({"value": 1, "name": "a\0b"}, "$.name"),
        ({"value": "x" * 10_001}, "$.value"),
        ({"value": 1e13}, "$.value"),
        ({"value": 1, "comment": ""}, "$.comment"),
        ({"value": 1, "comment": "x" * 10_001}, "$.comment"),
        ({"value": 1, "name": " "}, "$.name"),
        ({"value": 1, "author": "a\nb"}, "$.author"),
        ({"value": 1, "given_at": "yesterday"}, "$.given_at"),
        ({"value": 1, "rating": 1}, "$.rating"),
        ({"value": 1, "session_id": "other"}, "$.session_id"),
    ],
)
def test_what_cannot_be_kept_is_named(client: FlaskClient, fields: dict[str, Any], path: str) -> None:
    assert paths(give(client, **fields)) == [path]
    assert client.get(in_path("chat")).status_code == 404


def test_nothing_can_be_said_of_an_erased_session(client: FlaskClient, backend: Backend) -> None:
    log(client, session_id="chat", interaction_id="1", prompt="Hello")
    for author in ("ada", "bob"):
        give(client, value=True, author=author, comment="Nice")
    would = client.delete(f"{in_path('chat')}?dry_run=true").get_json()
    report = client.delete(in_path("chat")).get_json()
    assert (would["feedback"], report["feedback"]) == (2, 2)
    with psycopg.connect(backend.database) as connection:
        assert connection.execute(report["proof"].encode()).fetchall() == [(0,)]
        assert connection.execute("select count(*) from turnlog.ai_feedback").fetchall() == [(0,)]
    assert problem(give(client, value=False))["status"] == 410
    assert problem(client.get(f"{in_path('chat')}/feedback"))["status"] == 410


def test_a_user_takes_what_they_said_along(client: FlaskClient, backend: Backend) -> None:
    create(client, session_id="own", user_id="ada")
    create(client, session_id="bob's", user_id="bob")
    give(client, session="own", value=1)
    give(client, session="own", value=2, author="bob")
    give(client, session="bob's", value=3, author="ada", comment="Hm")
    give(client, session="bob's", value=4, author="bob")
    would = client.delete("/v1/users/ada?dry_run=true").get_json()
    report = client.delete("/v1/users/ada").get_json()
    assert (would["feedback"], report["feedback"]) == (3, 3)
    with psycopg.connect(backend.database) as connection:
        assert connection.execute(report["proof"].encode()).fetchall() == [(0,)]
        assert connection.execute("select value from turnlog.ai_feedback").fetchall() == [(4,)]
    assert client.delete("/v1/users/ada").get_json()["feedback"] == 0
    assert give(client, session="bob's", value=5, author="ada").status_code == 201, "a new start"


def test_what_waited_while_its_author_was_erased_is_refused(repository: ConversationRepository, store: Store) -> None:
    repository.write([Session(session_id="bob's", user_id="bob")])
    who = repository.session("bob's")["session_id"]
    repository.write([Feedback(session_id="bob's", interaction_id="1", value=1, author="ada")])
    repository.erase_user("ada")

    def waited(received_at: datetime, author: str) -> str:
        at = received_at.isoformat()
        row = {
            "session_id": who, "interaction_id": str(uuid.uuid4()), "author": author, "name": "rating", "value": 1,
            "given_at": at, "created_at": at,
        }  # fmt: skip
        batch = Batch(PROJECT, [{"id": who, "implicit": True, "created_at": at}], feedback=[row], late=True)
        return store.write(batch).feedback[0].receipt

    hour = timedelta(hours=1)
    assert waited(datetime.now(UTC) - hour, "ada") == "rejected"
    assert waited(datetime.now(UTC) + hour, "ada") == "created"
    assert waited(datetime.now(UTC) - hour, "bob") == "created"


def test_feedback_alone_keeps_a_session_from_expiring(repository: ConversationRepository, store: Store) -> None:
    old, now = AT - timedelta(days=100), datetime.now(UTC)
    for name in ("idle", "judged"):
        ConversationRepository(store, PROJECT, clock=lambda: old).write([Session(session_id=name)])
    repository.write([Feedback(session_id="judged", interaction_id="1", value=1)])
    before = (now - timedelta(days=1)).isoformat()
    request = {"project": PROJECT, "before": before, "limit": 10}
    assert ask(store, ops.EXPIRABLE, None, request)["session_ids"] == [repository.session("idle")["session_id"]]


def take_back(client: FlaskClient, path: str, **query: str) -> TestResponse:
    return client.delete(f"{in_path('chat')}{path}/feedback", query_string=query)


@pytest.mark.parametrize("on", ["/interactions/1", ""], ids=["on an interaction", "on the session"])
def test_feedback_is_taken_back(client: FlaskClient, on: str) -> None:
    path = f"{in_path('chat')}{on}/feedback"
    log(client, session_id="chat", interaction_id="1", prompt="hi", response="ho")
    assert client.post(path, json={"value": True, "author": "ada", "comment": "Nice"}).status_code == 201
    taken = client.post(path, json={"value": None, "author": "ada"})
    assert (taken.status_code, taken.get_json()["receipt"]) == (200, "filled")
    assert taken.get_json()["fields"] == ["value", "comment"]
    again = take_back(client, on, author="ada")
    assert (again.status_code, again.get_json()["receipt"]) == (200, "duplicate")
    assert [(row["value"], row["comment"]) for row in given_to(client)] == [(None, None)]
    assert client.post(path, json={"value": False, "author": "ada"}).get_json()["fields"] == ["value"]
    assert [row["value"] for row in given_to(client)] == [False], "a later thumb counts again"
    told = take_back(client, on, author="ada", name="rating").get_json()
    assert (told["receipt"], told["fields"], told["author"]) == ("filled", ["value"], "ada")
    assert [row["value"] for row in given_to(client)] == [None]


def test_what_was_never_given_is_taken_back_too_and_an_older_thumb_stays_taken_back(client: FlaskClient) -> None:
    assert take_back(client, "/interactions/1", author="ada").status_code == 201
    late = give(client, value=True, author="ada", given_at="2025-11-21T06:30:00Z").get_json()
    assert late["receipt"] == "duplicate"
    assert [row["value"] for row in given_to(client)] == [None]


def test_only_the_named_feedback_is_taken_back(client: FlaskClient) -> None:
    for author, name in itertools.product(["ada", "bob"], ["rating", "score"]):
        give(client, name=name, value=1, author=author)
    give(client, value=1)
    client.post(f"{in_path('chat')}/feedback", json={"value": 1, "author": "ada"})
    take_back(client, "/interactions/1", author="ada", name="score")
    taken = [(row["author"], row["name"]) for row in given_to(client) if row["value"] is None]
    assert taken == [("ada", "score")]
    take_back(client, "/interactions/1")
    assert {row["author"] for row in given_to(client) if row["value"] is None} == {None, "ada"}


def test_at_one_time_taking_back_counts(client: FlaskClient) -> None:
    at = "2025-11-21T06:30:00Z"
    for interaction, order in (("1", [None, True]), ("2", [True, None])):
        for value in order:
            give(client, interaction, value=value, given_at=at)
    assert [row["value"] for row in given_to(client)] == [None, None]


def test_a_parameter_that_taking_back_does_not_have_is_refused(client: FlaskClient) -> None:
    give(client, value=True)
    for query in ({"autor": "ada"}, {"name": " "}, {"author": ""}):
        assert paths(take_back(client, "/interactions/1", **query)) == [f"?{next(iter(query))}"]
    assert [row["value"] for row in given_to(client)] == [True]


def test_a_whole_session_is_rated(client: FlaskClient) -> None:
    log(client, session_id="chat", interaction_id="1", prompt="hi", response="ho")
    give(client, value=1)
    told = client.post("/v1/feedback", json={"session_id": "chat", "value": 5, "comment": "Thanks"}).get_json()
    assert (told["session_key"], told["interaction_id"], told["interaction_key"]) == ("chat", None, None)
    assert told["receipt"] == "created"
    again = client.post("/v1/feedback", json={"session_id": "chat", "interaction_id": None, "value": 5}).get_json()
    assert (again["receipt"], again["fields"]) == ("filled", ["comment"])
    other = client.post(f"{in_path('chat')}/feedback", json={"value": True, "name": "solved", "author": "ada"})
    assert other.status_code == 201
    assert [(row["interaction_key"], row["interaction_id"] is None, row["name"], row["value"])
            for row in given_to(client)] == [
        (None, True, "rating", 5), (None, True, "solved", True), ("1", False, "rating", 1)
    ]  # fmt: skip
    assert [row["value"] for row in given_to(client, query="?interaction=1")] == [1]
    session = client.get(in_path("chat")).get_json()
    assert session["interaction_count"] == 1, "feedback on the session is no turn"


def test_a_session_is_rated_before_anything_is_said_in_it(client: FlaskClient) -> None:
    assert client.post(f"{in_path('chat')}/feedback", json={"value": True}).status_code == 201
    assert client.get(in_path("chat")).get_json()["implicit"] is True
    page = client.get(f"{in_path('chat')}/feedback?limit=1").get_json()
    assert ([row["interaction_id"] for row in page["feedback"]], page["next"]) == ([None], None)


def test_a_list_with_feedback_on_the_session_is_paged(client: FlaskClient) -> None:
    for author in ("ada", "bob"):
        client.post(f"{in_path('chat')}/feedback", json={"value": author, "author": author})
        give(client, value=author, author=author)
    found = []
    cursor: str | None = ""
    while cursor is not None:
        page = client.get(f"{in_path('chat')}/feedback?limit=1{cursor and '&cursor='}{cursor}").get_json()
        found += [(row["interaction_id"] is None, row["value"]) for row in page["feedback"]]
        cursor = page["next"]
    assert found == [(True, "ada"), (True, "bob"), (False, "ada"), (False, "bob")]


def test_feedback_on_a_session_is_erased_with_it_and_with_its_author(client: FlaskClient, backend: Backend) -> None:
    for session in ("one", "two"):
        for author in ("ada", "bob"):
            client.post(f"{in_path(session)}/feedback", json={"value": 1, "author": author})
    assert client.delete(in_path("one")).get_json()["feedback"] == 2
    assert client.delete("/v1/users/ada").get_json()["feedback"] == 1
    with psycopg.connect(backend.database) as connection:
        assert connection.execute("select author from turnlog.ai_feedback").fetchall() == [("bob",)]
    assert problem(client.post(f"{in_path('one')}/feedback", json={"value": 1}))["status"] == 410
