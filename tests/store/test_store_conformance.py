"""What every store keeps to, whichever way it calls the functions and whatever wraps it.

A store is one more parameter of `store`. With SUPABASE_URL and its key set, a real project is one too; it is only
spoken to through the store, and in a Turnlog project of its own.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from logging_store import errors
from logging_store import operations as ops
from logging_store.batches import Batch
from logging_store.group_commit import GroupCommit
from logging_store.records.json_values import MAX_METADATA_KEYS
from logging_store.spool import Limits, Spool
from logging_store.store import Store
from tests import outside
from tests.conftest import open_backend
from tests.databases import TestServer
from tests.store_calls import ask

AT = "2026-11-21T06:30:00+00:00"
PROJECT = f"conformance-{uuid.uuid4()}"
WRAPPED: dict[str, Callable[[Store, Path], Store]] = {
    "group commit": lambda store, _: GroupCommit(store, max_wait_s=10),
    "spool": lambda store, path: Spool(store, path, Limits(min_free_bytes=0)),
    "group commit over spool": lambda store, path: GroupCommit(
        Spool(store, path, Limits(min_free_bytes=0)), max_wait_s=10
    ),
}
KINDS = ["postgres", "supabase", *WRAPPED] + ["real Supabase"] * (outside.PROJECT is not None)


@pytest.fixture(params=KINDS, scope="module")
def store(
    request: pytest.FixtureRequest, postgres_server: TestServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """Yield one store for all tests of a kind: they don't meet, as they mustn't in a real project."""
    if request.param == "real Supabase":
        project = outside.PROJECT
        assert project
        lending = project.lent(postgres_server.emptied_tables()) if project.database else nullcontext()
        with lending, closing(project.open()) as real:
            yield real
        return
    plain = request.param not in WRAPPED
    with open_backend(request.param if plain else "postgres", postgres_server) as backend:
        store = backend.open()
        if plain:
            yield store
            return
        folder = tmp_path_factory.mktemp("spool") / "of the store"
        store = WRAPPED[request.param](store, folder)
        yield store
        store.close()
        assert not folder.exists(), "nothing was spooled: the store was there all the time"


def session_row(session_id: str, **facts: object) -> dict[str, object]:
    return {"id": session_id, "created_at": AT, **facts}


def interaction_row(session_id: str, interaction_id: str, **facts: object) -> dict[str, object]:
    return {"session_id": session_id, "id": interaction_id, "created_at": AT, **facts}


def new_id() -> str:
    return str(uuid.uuid4())


def outcomes(store: Store, *rows: dict[str, object]) -> list[str]:
    return [receipt.receipt for receipt in store.write(Batch(PROJECT, interactions=rows)).interactions]


def transcript(store: Store, session_id: str) -> list[dict[str, Any]]:
    page = ask(store, ops.TRANSCRIPT, PROJECT, {"session_id": session_id, "limit": 10})
    interactions: list[dict[str, Any]] = page["interactions"]
    return interactions


def session_of(store: Store, session_id: str) -> dict[str, Any]:
    session: dict[str, Any] | None = ask(store, ops.SESSION, PROJECT, {"session_id": session_id})
    assert session is not None
    return session


def test_an_interaction_creates_its_session(store: Store) -> None:
    session, one = new_id(), new_id()
    assert outcomes(store, interaction_row(session, one, prompt="Hello")) == ["created"]
    assert session_of(store, session)["implicit"] is True
    assert [(kept["interaction_id"], kept["prompt"]) for kept in transcript(store, session)] == [(one, "Hello")]


def test_the_same_record_again_is_a_duplicate(store: Store) -> None:
    row = interaction_row(new_id(), new_id(), prompt="Hello", metadata={"a": {"b": None}}, tags=["x"], cost_usd=0.1)
    assert outcomes(store, row) == ["created"]
    assert outcomes(store, row) == ["duplicate"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_response_completes_its_prompt_in_either_order(store: Store, order: tuple[int, int]) -> None:
    session, one = new_id(), new_id()
    halves = [interaction_row(session, one, prompt="Hello"), interaction_row(session, one, response="Hi")]
    assert [outcomes(store, halves[n]) for n in order] == [["created"], ["filled"]]
    (kept,) = transcript(store, session)
    assert (kept["prompt"], kept["response"], kept["status"]) == ("Hello", "Hi", "completed")


def test_a_contradiction_names_its_fields_and_changes_nothing(store: Store) -> None:
    session, one = new_id(), new_id()
    outcomes(store, interaction_row(session, one, prompt="Hello", metadata={"a": 1}))
    (receipt,) = store.write(
        Batch(PROJECT, interactions=[interaction_row(session, one, prompt="Bye", metadata={"a": 2}, model="m")])
    ).interactions
    assert (receipt.receipt, receipt.fields) == ("conflict", ("prompt", "metadata.a"))
    (kept,) = transcript(store, session)
    assert (kept["prompt"], kept["metadata"], kept["model"]) == ("Hello", {"a": 1}, None)


def test_tags_and_metadata_gain_entries(store: Store) -> None:
    session, one = new_id(), new_id()
    outcomes(store, interaction_row(session, one, prompt="Hello", tags=["b"], metadata={"a": 1}))
    more = interaction_row(session, one, tags=["a", "b"], metadata={"b": [2]})
    assert outcomes(store, more) == ["filled"]
    assert outcomes(store, more) == ["duplicate"]
    (kept,) = transcript(store, session)
    assert (kept["tags"], kept["metadata"]) == (["b", "a"], {"a": 1, "b": [2]})


@pytest.mark.parametrize("more", [{}, {"on_conflict": "revise", "started_at": "2026-11-22T10:00:00+00:00"}])
def test_metadata_gains_no_more_entries_than_a_record_may_have(store: Store, more: dict[str, str]) -> None:
    session, one = new_id(), new_id()
    full = {str(n): n for n in range(MAX_METADATA_KEYS - 1)}
    outcomes(store, interaction_row(session, one, prompt="Hello", metadata=full))
    assert outcomes(store, interaction_row(session, one, metadata={"last": 1}, **more)) == ["filled"]
    (receipt,) = store.write(
        Batch(PROJECT, interactions=[interaction_row(session, one, metadata={"one more": 1}, model="m", **more)])
    ).interactions
    assert (receipt.receipt, receipt.fields) == ("conflict", ("metadata",))
    (kept,) = transcript(store, session)
    assert (kept["metadata"], kept["model"]) == ({**full, "last": 1}, None)


def test_repetitions_of_one_id_in_a_batch_are_written_in_order(store: Store) -> None:
    session, one, two = new_id(), new_id(), new_id()
    assert outcomes(
        store,
        interaction_row(session, one, prompt="Hello"),
        interaction_row(session, two, prompt="Other"),
        interaction_row(session, one, response="Hi"),
        interaction_row(session, one, response="Ho"),
        interaction_row(session, one, prompt="Hello", response="Hi"),
    ) == ["created", "created", "filled", "conflict", "duplicate"]


def test_a_create_makes_an_implicit_session_explicit(store: Store) -> None:
    session = new_id()
    outcomes(store, interaction_row(session, new_id(), prompt="Hello"))
    create = Batch(PROJECT, sessions=[session_row(session, title="T")], return_parents=True)
    (filled,) = store.write(create).sessions
    (again,) = store.write(create).sessions
    assert (filled.receipt, filled.fields, again.receipt) == ("filled", ("title",), "duplicate")
    assert again.session is not None
    assert (again.session["implicit"], again.session["title"], again.session["interaction_count"]) == (False, "T", 1)


def test_an_edited_field_is_not_filled_again(store: Store) -> None:
    session = new_id()
    create = Batch(PROJECT, sessions=[session_row(session, title="T")])
    store.write(create)
    edited = ask(store, ops.EDIT, PROJECT, {"session_id": session, "changes": {"title": "Mended", "status": "closed"}})
    assert edited is not None
    assert (edited["title"], edited["status"]) == ("Mended", "closed")
    assert store.write(create).sessions[0].receipt == "duplicate"
    assert ask(store, ops.SESSION, PROJECT, {"session_id": session}) == edited


def test_an_erased_session_stays_erased(store: Store) -> None:
    session, one = new_id(), new_id()
    late = Batch(
        PROJECT,
        sessions=[session_row(session, key="k", title="T")],
        interactions=[interaction_row(session, one, prompt="Hello"), interaction_row(new_id(), one, prompt="Other")],
    )
    store.write(late)
    report = ask(store, ops.ERASE, PROJECT, {"session_id": session})
    assert report is not None
    assert report["interactions"] == 1
    assert ask(store, ops.ERASE, PROJECT, {"session_id": session}) == report | {"interactions": 0}
    receipts = store.write(late)
    assert [(r.receipt, r.reason) for r in receipts] == [
        ("rejected", "erased"),
        ("rejected", "erased"),
        ("duplicate", None),
    ]
    tombstone = session_of(store, session)
    assert (tombstone["key"], tombstone["title"], tombstone["erased_at"]) == (None, None, report["erased_at"])


def test_a_user_is_erased_in_steps_for_good(store: Store) -> None:
    project = f"{PROJECT}-users-{new_id()}"
    own, other = new_id(), new_id()
    batch = Batch(
        project,
        sessions=[session_row(own, user_id="ada"), session_row(other, user_id="bob")],
        participants=[{"session_id": other, "participant": "ada", "created_at": AT}],
        interactions=[interaction_row(own, new_id(), prompt="Mine"), interaction_row(other, new_id(), prompt="Bob's")],
    )
    store.write(batch)
    page = ask(store, ops.PARTICIPATIONS, project, {"user_id": "ada", "limit": 1})
    assert ([row["session_id"] for row in page["sessions"]], page["after"]) == ([other], None)
    report = ask(store, ops.ERASE_USER, project, {"user_id": "ada", "begin": True})
    erased = report["session_ids"]
    while report["left"]:
        report = ask(store, ops.ERASE_USER, project, {"user_id": "ada"})
        erased += report["session_ids"]
    assert (erased, report["sessions"], report["interactions"], report["participations"]) == ([own], 1, 1, 1)
    assert ask(store, ops.PARTICIPATIONS, project, {"user_id": "ada", "limit": 1}) == {"sessions": [], "after": None}
    late = store.write(replace(batch, late=True))
    assert [(receipt.receipt, receipt.reason) for receipt in late] == [
        ("rejected", "erased"),
        ("duplicate", None),
        ("rejected", "erased"),
        ("rejected", "erased"),
        ("duplicate", None),
    ]


def test_a_projects_reports_are_signed_with_one_key(store: Store) -> None:
    key = ask(store, ops.REPORT_KEY, f"{PROJECT}-reports")["key"]
    assert len(bytes.fromhex(key)) == 32
    assert ask(store, ops.REPORT_KEY, f"{PROJECT}-reports")["key"] == key
    assert ask(store, ops.REPORT_KEY, f"{PROJECT}-other-reports")["key"] != key


def test_projects_are_isolated(store: Store) -> None:
    session, one = new_id(), new_id()
    here, there = f"{PROJECT}-here", f"{PROJECT}-there"
    for project in (here, there):
        batch = Batch(project, interactions=[interaction_row(session, one, prompt=project)])
        assert store.write(batch).interactions[0].receipt == "created"
    assert ask(store, ops.SESSION, PROJECT, {"session_id": session}) is None
    assert ask(store, ops.ERASE, here, {"session_id": session}) is not None
    left = ask(store, ops.TRANSCRIPT, there, {"session_id": session, "limit": 10})["interactions"]
    assert [interaction["prompt"] for interaction in left] == [there]


def test_a_transcript_is_ordered_by_turn_then_time_and_pages_without_gaps(store: Store) -> None:
    session = new_id()
    turns = [3, 1, 2, None, 5, None, 4]
    outcomes(
        store,
        *(
            interaction_row(
                session, new_id(), prompt=f"{turn}-{n}", turn=turn, started_at=f"2026-11-20T06:3{9 - n}:00+00:00"
            )
            for n, turn in enumerate(turns)
        ),
    )
    seen: list[str] = []
    query: dict[str, object] = {"limit": 2}
    while True:
        page = ask(store, ops.TRANSCRIPT, PROJECT, {"session_id": session, **query})
        seen += [interaction["prompt"] for interaction in page["interactions"]]
        if page["after"] is None:
            break
        query["after"] = page["after"]
    assert seen == ["1-1", "2-2", "3-0", "4-6", "5-4", "None-5", "None-3"]
    for size in (2, 7, 9):
        page = ask(store, ops.TRANSCRIPT, PROJECT, {"session_id": session, "limit": size, "latest": True})
        assert [interaction["prompt"] for interaction in page["interactions"]] == seen[-size:]
        assert page["after"] is None


def test_the_list_filters_and_pages_newest_first(store: Store) -> None:
    sessions = [new_id() for _ in range(7)]
    store.write(
        Batch(
            PROJECT,
            sessions=[
                session_row(
                    session,
                    user_id="ada" if n % 2 else "bob",
                    tags=["even"] if n % 2 == 0 else None,
                    started_at=f"2026-11-0{n + 1}T00:00:00+00:00",
                )
                for n, session in enumerate(sessions)
            ],
        )
    )
    ask(store, ops.EDIT, PROJECT, {"session_id": sessions[4], "changes": {"status": "closed"}})
    ask(store, ops.ERASE, PROJECT, {"session_id": sessions[6]})

    def listed(**query: object) -> list[int]:
        found: list[int] = []
        while True:
            page = ask(store, ops.SESSIONS, PROJECT, {"limit": 2, **query})
            # other tests' sessions are of another time
            found += [sessions.index(s["session_id"]) for s in page["sessions"] if s["session_id"] in sessions]
            if page["after"] is None:
                return found
            query["after"] = page["after"]

    assert listed(**{"from": "2026-11-01T00:00:00+00:00", "to": "2026-11-08T00:00:00+00:00"}) == [5, 4, 3, 2, 1, 0]
    assert listed(user_id="ada") == [5, 3, 1]
    assert listed(tag="even") == [4, 2, 0]
    assert listed(status="closed") == [4]
    assert listed(**{"from": "2026-11-02T00:00:00+00:00", "to": "2026-11-04T00:00:00+00:00"}) == [2, 1]
    assert listed(user_id="nobody") == []


def test_gaps_in_the_callers_turns_are_found(store: Store) -> None:
    project = f"{PROJECT}-gaps"
    gappy, whole, erased = (new_id() for _ in range(3))
    for session, turns in {gappy: [2, 3, 7, 7], whole: [1, 2], erased: [1, 3]}.items():
        rows = [interaction_row(session, new_id(), prompt="Hello", turn=turn) for turn in turns]
        store.write(Batch(project, interactions=rows))
    ask(store, ops.ERASE, project, {"session_id": erased})
    lacking = {
        "session_id": gappy, "key": None, "erased_at": None, "first": 2, "last": 7, "counted": 4,
        "missing": 3, "gap_count": 1, "gaps": [{"from": 4, "to": 6}],
        "doubled_count": 1, "doubled": [{"turn": 7, "interactions": 2}],
    }  # fmt: skip
    assert ask(store, ops.GAPS, project, {"session_id": gappy, "ranges": 10}) == {"sessions": [lacking], "after": None}
    assert ask(store, ops.GAPS, project, {"session_id": new_id(), "ranges": 10}) == {"sessions": [], "after": None}
    (tombstone,) = ask(store, ops.GAPS, project, {"session_id": erased, "ranges": 10})["sessions"]
    assert (tombstone["erased_at"] is None, tombstone["counted"]) == (False, 0)
    first_page = ask(store, ops.GAPS, project, {"limit": 1, "ranges": 10})
    assert first_page["after"] == min(gappy, whole)
    last_page = ask(store, ops.GAPS, project, {"limit": 1, "ranges": 10, "after": first_page["after"]})
    assert last_page["after"] is None
    assert first_page["sessions"] + last_page["sessions"] == [lacking]


def test_only_a_selftest_project_is_purged(store: Store) -> None:
    session, project = new_id(), f"selftest-{uuid.uuid4()}"
    for each in (project, PROJECT):
        store.write(Batch(each, interactions=[interaction_row(session, new_id(), prompt="Hello")]))
    assert ask(store, ops.PURGE_PROJECT, project) == {"sessions": 1, "interactions": 1, "left": 0}
    assert ask(store, ops.PURGE_PROJECT, project) == {"sessions": 0, "interactions": 0, "left": 0}
    assert ask(store, ops.SESSION, project, {"session_id": session}) is None
    for other in (PROJECT, "selftest-", "selftest-mine", f"{project}-2", f"x{project}", f"{project}\n"):
        with pytest.raises(errors.Invalid, match="only a selftest's project can be purged"):
            ask(store, ops.PURGE_PROJECT, other)
    assert len(transcript(store, session)) == 1


def test_an_unknown_session_is_none(store: Store) -> None:
    nowhere = new_id()
    assert ask(store, ops.SESSION, PROJECT, {"session_id": nowhere}) is None
    assert ask(store, ops.EDIT, PROJECT, {"session_id": nowhere, "changes": {"title": "T"}}) is None
    assert ask(store, ops.ERASE, PROJECT, {"session_id": nowhere}) is None
    assert ask(store, ops.TRANSCRIPT, PROJECT, {"session_id": nowhere, "limit": 1}) == {
        "session": None,
        "interactions": [],
        "branch": None,
        "after": None,
        "complete": True,
    }


def test_ping_returns_durable_settings(store: Store) -> None:
    settings = store.ping()
    assert (settings["fsync"], settings["full_page_writes"], settings["synchronous_commit"]) == ("on", "on", "on")


def test_a_closed_store_opens_again(store: Store) -> None:
    row = interaction_row(new_id(), new_id(), prompt="Hello")
    assert outcomes(store, row) == ["created"]
    store.close()
    assert outcomes(store, row) == ["duplicate"]
