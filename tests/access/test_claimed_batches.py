"""Batches of restricted callers: the store checks the owner of each session, also when batches are merged."""

import threading
import uuid
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from logging_store import operations as ops
from logging_store.batches import Batch, BatchReceipts, Row
from logging_store.store import Store
from tests.conftest import PROJECT, Backend
from tests.store_calls import ask

NOW = "2026-11-21T10:00:00+00:00"
FOREIGN = "The session is somebody else's"
MINE, YOURS = "token:mine", "token:yours"


def session(id_: str, claim: str | None = None, **more: Any) -> Row:
    return {"id": id_, "implicit": True, "created_at": NOW} | ({"claim": claim} if claim else {}) | more


def said(session_id: str, prompt: str, claim: str | None = None) -> Row:
    row = {"session_id": session_id, "id": str(uuid.uuid4()), "prompt": prompt, "created_at": NOW}
    return row | ({"claim": claim} if claim else {})


def new() -> str:
    return str(uuid.uuid4())


def prompts(store: Store, session_id: str) -> list[str]:
    page = ask(store, ops.TRANSCRIPT, PROJECT, {"session_id": session_id, "limit": 100})
    return [row["prompt"] for row in page["interactions"]]


def outcomes(receipts: BatchReceipts) -> list[list[str]]:
    return [[each.reason or each.receipt for each in kind] for kind in (receipts.sessions, receipts.interactions)]


def test_records_in_sessions_of_others_are_rejected_alone(store: Store) -> None:
    mine, theirs, open_ = new(), new(), new()
    store.write(Batch(PROJECT, [session(theirs, YOURS)], [said(theirs, "theirs", YOURS)]))
    receipts = store.write(
        Batch(
            PROJECT,
            [session(theirs, MINE), session(mine, MINE, implicit=False), session(open_)],
            [said(theirs, "forged", MINE), said(mine, "mine", MINE), said(theirs, "again", YOURS), said(open_, "x")],
        )
    )
    assert outcomes(receipts) == [
        [FOREIGN, "created", "created"],
        [FOREIGN, "created", "created", "created"],
    ]
    assert sorted(prompts(store, theirs)) == ["again", "theirs"]
    assert (prompts(store, mine), prompts(store, open_)) == (["mine"], ["x"])


def test_of_two_claims_on_a_new_session_in_a_batch_the_first_wins(store: Store) -> None:
    one = new()
    rows = [session(one, MINE, implicit=False, title="mine"), session(one, YOURS, implicit=False, title="yours")]
    receipts = store.write(Batch(PROJECT, rows, [said(one, "yours", YOURS), said(one, "mine", MINE)]))
    assert outcomes(receipts) == [["created", FOREIGN], [FOREIGN, "created"]]
    found = ask(store, ops.SESSION, PROJECT, {"session_id": one})
    assert found is not None
    assert (found["title"], found["owner"]) == ("mine", MINE)


def test_sessions_of_backends_in_the_same_batch_have_no_owner(store: Store) -> None:
    one = new()
    receipts = store.write(Batch(PROJECT, [session(one, MINE), session(one)], [said(one, "a", MINE), said(one, "b")]))
    assert outcomes(receipts)[1] == [FOREIGN, "created"]
    found = ask(store, ops.SESSION, PROJECT, {"session_id": one})
    assert found is not None
    assert found["owner"] is None


@pytest.mark.parametrize("forged", [MINE, "user:bob"])
@pytest.mark.parametrize("of_the_service", [{}, {"implicit": False, "title": "ours", "user_id": "ada"}])
def test_records_of_others_for_a_session_of_the_same_batch_are_rejected(
    store: Store, of_the_service: dict[str, Any], forged: str
) -> None:
    one = new()
    rows = [session(one, forged, implicit=False, title="forged", user_id="bob"), session(one, **of_the_service)]
    receipts = store.write(Batch(PROJECT, rows, [said(one, "the service's")]))
    assert outcomes(receipts) == [[FOREIGN, "created"], ["created"]]
    found = ask(store, ops.SESSION, PROJECT, {"session_id": one})
    assert found is not None
    expected = (of_the_service.get("title"), of_the_service.get("user_id"))
    assert (found["title"], found["user_id"], found["implicit"]) == (*expected, not of_the_service)


def test_a_users_session_is_theirs_however_it_is_made(store: Store) -> None:
    by_user, by_service, by_token = new(), new(), new()
    receipts = store.write(Batch(PROJECT, [session(by_user, "user:ada")], [said(by_user, "Hi", "user:ada")]))
    assert outcomes(receipts) == [["created"], ["created"]]
    store.write(Batch(PROJECT, [session(by_service, user_id="ada"), session(by_token, MINE, user_id="ada")]))
    for name, receipt in ((by_user, "created"), (by_service, "created"), (by_token, FOREIGN)):
        receipts = store.write(Batch(PROJECT, [session(name, "user:ada")], [said(name, "More", "user:ada")]))
        assert outcomes(receipts)[1] == [receipt]
        receipts = store.write(Batch(PROJECT, [session(name, "user:bob")], [said(name, "No", "user:bob")]))
        assert outcomes(receipts)[1] == [FOREIGN]
    own = ask(store, ops.SESSIONS, PROJECT, {"limit": 10, "user_id": "ada", "unclaimed": True})["sessions"]
    assert {row["session_id"] for row in own} == {by_user, by_service}


def test_an_erased_session_answers_for_itself(store: Store) -> None:
    one = new()
    store.write(Batch(PROJECT, [session(one, MINE)], [said(one, "Hi", MINE)]))
    ask(store, ops.ERASE, PROJECT, {"session_id": one})
    receipts = store.write(Batch(PROJECT, [session(one, MINE)], [said(one, "late", MINE)]))
    assert outcomes(receipts)[1] == ["erased"]


def test_a_dry_run_answers_the_same_and_stores_nothing(store: Store) -> None:
    one = new()
    batch = Batch(PROJECT, [session(one, MINE), session(one, YOURS)], [said(one, "a", MINE), said(one, "b", YOURS)])
    planned = outcomes(store.write(replace(batch, dry_run=True)))
    assert ask(store, ops.SESSION, PROJECT, {"session_id": one}) is None
    assert outcomes(store.write(batch)) == planned == [["created", FOREIGN], ["created", FOREIGN]]


def test_a_split_batch_keeps_its_claims() -> None:
    one, other = new(), new()
    batch = Batch(PROJECT, [session(one, MINE), session(other, YOURS)], [said(one, "a", MINE), said(other, "b", YOURS)])
    for part in (*batch.halves(), batch.single(batch.interactions[0]), batch.select({other}), batch.exclude({other})):
        assert all("claim" in row for row in part.rows())


def of_both(first: str | None, second: str | None) -> Batch:
    """Return what two callers said of one session, as a group or the drain merges it."""
    one = new()
    return Batch.merge(
        [Batch(PROJECT, [session(one, claim, key="chat-42")], [said(one, "x", claim)]) for claim in (first, second)]
    )


@pytest.mark.parametrize("part", ["alone", "halves", "only"])
@pytest.mark.parametrize("claims", [("user:ada", YOURS), (None, MINE)])
def test_in_parts_the_first_has_it_too(store: Store, part: str, claims: tuple[str | None, str]) -> None:
    batch = of_both(*claims)
    row = batch.interactions[0]
    parts = {
        "alone": batch.single(row),
        "halves": batch.halves()[0],
        "only": batch.filter(lambda _, each: each is row),
    }
    assert outcomes(store.write(parts[part]))[1] == ["created"]
    found = ask(store, ops.SESSION, PROJECT, {"session_id": row["session_id"]})
    assert found is not None
    assert (found["owner"], found["key"]) == (claims[0], "chat-42")


def test_an_implicit_session_is_created_only_for_its_owner(store: Store) -> None:
    one = new()
    batch = Batch(PROJECT, [session(one, MINE)], [said(one, "the service's"), said(one, "mine", MINE)])
    assert outcomes(store.write(batch)) == [[FOREIGN], ["created", FOREIGN]]
    other = new()
    assert outcomes(store.write(Batch(PROJECT, [], [said(other, "Hi", "user:ada")])))[1] == ["created"]
    found = ask(store, ops.SESSION, PROJECT, {"session_id": other})
    assert found is not None
    assert found["user_id"] == "ada"


def in_folder(folder: str, number: int, id_: str, **more: Any) -> Row:
    return session(id_, folder_id=folder, session_number=number, **more)


def test_a_number_conflict_is_reported_beside_sessions_of_others(store: Store) -> None:
    folder, holder, unplaced, mine, free = new(), new(), new(), new(), new()
    folders = [{"id": folder, "implicit": True, "created_at": NOW}]
    store.write(Batch(PROJECT, [in_folder(folder, 1, holder)], folders=folders))
    rows = [
        *(session(mine, MINE), session(mine, YOURS)),
        *(in_folder(folder, 1, unplaced, implicit=False), session(free, implicit=False)),
    ]
    receipts = store.write(Batch(PROJECT, rows, [said(unplaced, "Hi")], folders))
    assert outcomes(receipts) == [["created", FOREIGN, "conflict", "created"], ["created"]]
    assert receipts.sessions[2].held_by == holder


def test_a_plan_is_reported_beside_sessions_of_others(store: Store) -> None:
    folder, mine = new(), new()
    planned = [in_folder(folder, number, new(), numbering="named", status="locked") for number in (1, 2)]
    plan = {"id": folder, "created_at": NOW, "sessions_per_week": 1, "total_weeks": 2, "sessions": planned}
    receipts = store.write(Batch(PROJECT, [session(mine, MINE), session(mine, YOURS)], folders=[plan]))
    assert outcomes(receipts) == [["created", FOREIGN], []]
    assert [each["session_id"] for each in receipts.folders[0].planned] == [row["id"] for row in planned]


@pytest.mark.parametrize("size", [1, 300])
def test_receipts_keep_their_places(store: Store, size: int) -> None:
    mine, theirs = new(), new()
    store.write(Batch(PROJECT, [session(theirs, YOURS)]))
    rows = [said((mine, theirs)[n % 2], f"{n}", MINE) for n in range(size * 2)]
    receipts = store.write(Batch(PROJECT, [session(mine, MINE), session(theirs, MINE)], rows))
    assert outcomes(receipts)[1] == ["created", FOREIGN] * size
    assert outcomes(store.write(Batch(PROJECT, [session(mine, MINE)], rows)))[1] == ["duplicate", FOREIGN] * size


def test_the_loser_of_a_race_for_a_session_gets_a_conflict(backend: Backend) -> None:
    # somebody makes the session between the look and the write: the row waits for a lock on the unique index
    store, one = backend.open(), new()
    with psycopg.connect(backend.database) as other:
        other.execute(
            "insert into turnlog.ai_sessions (project, id, claim, created_at) values (%s, %s, %s, now())",
            [PROJECT, one, YOURS],
        )
        with psycopg.connect(backend.database, autocommit=True) as third:
            answered: list[BatchReceipts] = []
            batch = Batch(PROJECT, [session(one, MINE)], [said(one, "late", MINE)])
            thread = threading.Thread(target=lambda: answered.append(store.write(batch)))
            thread.start()
            waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
            while third.execute(waiting).fetchone() == (0,):
                assert thread.is_alive()
            other.commit()
            thread.join()
    assert outcomes(answered[0]) == [[FOREIGN], [FOREIGN]]
    assert prompts(store, one) == []
