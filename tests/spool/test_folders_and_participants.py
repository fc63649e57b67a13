"""Folders, numbers and participants while the store is away, however late or often they are delivered."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logging_store.errors import StoreUnavailable
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.records.models import Folder, Interaction, Participant, Record, Session
from logging_store.repository import ConversationRepository
from logging_store.row_builder import RowBuilder
from logging_store.spool import CircuitBreaker, DeadLetters, Limits, Spool, SpoolDirectory
from logging_store.spool.blocked_sessions import BlockedSessions
from logging_store.spool.drain import Drain
from tests.http_calls import problem
from tests.spool.conftest import delivered
from tests.spool.flaky_store import FlakyStore

AWAY = StoreUnavailable("nobody answers")
PLAN = {"sessions_per_week": 1, "total_weeks": 3, "starts_on": "2026-11-23"}


def test_folders_and_participants_are_spooled_and_delivered(
    client: FlaskClient, spool: Spool, inner: FlakyStore
) -> None:
    client.put("/v1/sessions/mine/participants/ann", json={"state": "reserved"})
    inner.away = AWAY
    folder = client.post("/v1/folders", json={"folder_id": "f", "name": "F", "plan": PLAN})
    assert (folder.status_code, folder.get_json()["receipt"]) == (202, "spooled")
    numbered = client.post("/v1/folders/f/sessions", json={"session_number": 2, "title": "Second"})
    following = client.post("/v1/folders/f/sessions", json={})
    booked = client.post("/v1/sessions", json={"session_id": "b", "participants": [{"participant": "bob"}]})
    moved = client.put("/v1/sessions/mine/participants/ann", json={"state": "joined", "role": "guest"})
    assert {each.status_code for each in (numbered, following, booked, moved)} == {202}
    assert [each["receipt"] for each in booked.get_json()["participants"]] == ["spooled"]
    problem(client.get("/v1/folders/f"), 503)
    problem(client.get("/v1/sessions/mine/participants"), 503)

    inner.away = None
    delivered(spool)
    found = client.get("/v1/folders/f").get_json()
    assert found["name"] == "F"
    assert [(row["session_number"], row["title"]) for row in found["sessions"]] == [
        (1, None),
        (2, "Second"),
        (3, None),
        (4, None),
    ]
    # the ids that were answered meanwhile are theirs
    assert found["sessions"][1]["session_id"] == numbered.get_json()["session_id"]
    assert found["sessions"][3]["session_id"] == following.get_json()["session_id"]
    (ann,) = client.get("/v1/sessions/mine/participants").get_json()["participants"]
    assert (ann["role"], ann["state"], ann["spooled"]) == ("guest", "joined", False)


def test_spooled_participants_are_shown_and_marked(client: FlaskClient, spool: Spool) -> None:
    client.put("/v1/sessions/s/participants/ann", json={"state": "reserved"})
    kept = [Participant(session_id="s", participant="ann", state="joined", role="guest")]
    spoken = [Interaction(session_id="s", participant="bob", prompt="Hello")]
    builder = RowBuilder("default", datetime(2026, 11, 21, 6, 30, tzinfo=UTC))
    spool.breaker.record_failure(AWAY)  # nothing is delivered while we look
    spool.directory.append(builder.batch(builder.build([*kept, *spoken])))
    spool.breaker.record_success()
    listed = client.get("/v1/sessions/s/participants").get_json()["participants"]
    shown = {each["participant"]: (each["role"], each["state"], each["spooled"]) for each in listed}
    assert shown == {"ann": ("guest", "joined", True), "bob": (None, None, True)}


def test_a_spooled_step_back_becomes_a_dead_letter(client: FlaskClient, spool: Spool, inner: FlakyStore) -> None:
    client.put("/v1/sessions/s/participants/ann", json={"state": "left"})
    inner.away = AWAY
    client.put("/v1/sessions/s/participants/ann", json={"state": "joined"})
    client.post("/v1/folders", json={"folder_id": "f", "user_id": "one"})
    client.post("/v1/folders", json={"folder_id": "f", "user_id": "two"})
    inner.away = None
    delivered(spool)
    letters = spool.dead_letters.list()
    assert sorted(letter.receipt["fields"] for letter in letters) == [["state"], ["user_id"]]
    assert sorted(letter.record_id for letter in letters if letter.receipt["fields"] == ["state"]) == ["ann"]


def numbered(n: int) -> dict[str, Any]:
    return {"folder_id": "f", "session_number": n}


#: No two of them contradict each other; of states the furthest counts, of plans the longest.
STATEMENTS: list[Record] = [
    Folder.model_validate({"folder_id": "f", "plan": PLAN}),
    Folder.model_validate({"folder_id": "f", "plan": PLAN | {"total_weeks": 5}}),
    Folder.model_validate({"folder_id": "f", "name": "F", "user_id": "t"}),
    Session.model_validate(numbered(2) | {"title": "Second", "status": "closed"}),
    Session.model_validate(numbered(2) | {"metadata": {"paid": True}, "user_id": "t"}),
    Session.model_validate(numbered(7) | {"tags": ["extra"]}),
    Session.model_validate({"session_id": "own", "title": "Own"}),
    Session.model_validate({"session_id": "own", "folder_id": "f", "session_number": 9}),
    *(Participant(session_id="own", participant="ann", state=state) for state in ("reserved", "confirmed", "left")),
    Participant(session_id="own", participant="bob", role="guest"),
    Interaction(session_id="own", interaction_id="i", participant="cleo", prompt="Hello"),
]


def rows(database: str, project: str) -> list[tuple[Any, ...]]:
    """Return what a project holds, without what arrival decides, and without ids, which derive from the project."""
    with psycopg.connect(database) as connection:
        return [
            *connection.execute(
                "select key, name, user_id, sessions_per_week, total_weeks, starts_on, implicit"
                " from turnlog.ai_session_folders where project = %s",
                [project],
            ),
            *connection.execute(
                "select s.key, f.key, s.session_number, s.scheduled_on, s.status, s.implicit, s.title, s.user_id,"
                " s.tags, s.metadata from turnlog.ai_sessions s"
                " left join turnlog.ai_session_folders f on f.id = s.folder_id and f.project = s.project"
                " where s.project = %s order by s.session_number, s.key",
                [project],
            ),
            *connection.execute(
                "select participant, role, state from turnlog.ai_session_participants where project = %s order by 1",
                [project],
            ),
        ]


@pytest.mark.timeout(600)  # a failure is made smaller before it is shown
def test_any_order_and_any_split_gives_the_same_rows(database: str, tmp_path: Path, inner: FlakyStore) -> None:
    store = PostgresStore(database)
    once = ConversationRepository(store, "once")
    once.write(STATEMENTS)
    expected = rows(database, "once")

    def parts(records: list[Record], sizes: list[int]) -> Iterator[list[Record]]:
        arriving = iter(records)
        for size in [*sizes, len(records)]:
            if part := list(islice(arriving, size)):
                yield part

    @settings(max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        order=st.permutations([*STATEMENTS, *STATEMENTS[::2]]),
        sizes=st.lists(st.integers(1, 5), max_size=20),
        ways=st.lists(st.sampled_from(["at once", "spooled", "spooled, and delivered now"]), min_size=21, max_size=21),
    )
    def check(order: list[Record], sizes: list[int], ways: list[str]) -> None:
        project = uuid.uuid4().hex
        repository = ConversationRepository(store, project)
        folder = tmp_path / project
        directory = SpoolDirectory(folder, Limits(min_free_bytes=0))
        drain = Drain(store, directory, DeadLetters(folder), CircuitBreaker(), BlockedSessions())
        for part, way in zip(parts(order, sizes), ways, strict=False):
            if way == "at once":
                repository.write(part)
            else:
                builder = RowBuilder(project, datetime.now(UTC))
                directory.append(builder.batch(builder.build(part)))
            while way == "spooled, and delivered now" and directory.depth().entries:
                drain.step()
        while directory.depth().entries:
            drain.step()
        directory.close()
        assert rows(database, project) == expected

    try:
        check()
    finally:
        store.close()
    assert len(expected) == 1 + 7 + 3
