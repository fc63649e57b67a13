"""Calls of several callers that are written together: nobody is told, or gets, anything else than alone."""

from typing import Any

import pytest

from logging_store import group_commit
from logging_store.batches import Batch, BatchReceipts
from logging_store.records.models import Folder, Interaction, Participant, Record, Session
from logging_store.repository import ConversationRepository
from logging_store.store import Store

PROJECT = "default"
Told = list[str]


class NotWritten(Exception):  # noqa: N818
    """The batch was taken down instead."""


class Taker:
    """A store that takes down what it is given, and keeps nothing."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def write(self, batch: Batch) -> BatchReceipts:
        self.batches.append(batch)
        raise NotWritten

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not asked of this store")


def together(store: Store, *calls: list[Record]) -> list[Told]:
    """Write several callers' records as one group, as group commit does; return what each is told."""
    taker = Taker()
    for call in calls:
        with pytest.raises(NotWritten):
            ConversationRepository(taker, PROJECT).write(call, return_parents=True)
    waiting = [group_commit._Call(batch) for batch in taker.batches]  # noqa: SLF001
    # without threads, so that it is the same group each time
    group_commit.GroupCommit(store, 5)._write(waiting, float("inf"))  # noqa: SLF001
    return [
        [
            receipt.receipt
            for row, receipt in zip(call.batch.rows(), call.result(), strict=True)
            if not row.get("implicit")
        ]
        for call in waiting
    ]


def said(session: str, name: str) -> Interaction:
    return Interaction(session_id=session, interaction_id=name, prompt="Hello")


def test_a_taken_number_harms_nobody_else(repository: ConversationRepository, store: Store) -> None:
    repository.ensure_session(Session(session_id="mine", folder_id="f", session_number=1))
    claim = Session(session_id="other", folder_id="f", session_number=1, title="Claimed")
    told = together(store, [claim], [said("other", "i1")], [Participant(session_id="other", participant="ann")])
    assert told == [["conflict"], ["created"], ["created"]]
    assert [row["key"] for row in repository.transcript("other", {"limit": 9})["interactions"]] == ["i1"]
    session = repository.session("other")
    assert (session["implicit"], session["title"], session["session_number"]) == (True, None, None)


def test_a_refused_claim_alone_makes_no_session(repository: ConversationRepository, store: Store) -> None:
    repository.ensure_session(Session(session_id="mine", folder_id="f", session_number=1))
    claim = Session(session_id="other", folder_id="f", session_number=1)
    assert together(store, [claim], [said("mine", "i1")]) == [["conflict"], ["created"]]
    assert [row["key"] for row in repository.sessions({"limit": 9})["sessions"]] == ["mine"]


def test_what_is_said_of_the_session_that_a_number_derives_stays_there(
    repository: ConversationRepository, store: Store
) -> None:
    derived = repository.ensure_session(Session(folder_id="f", session_number=3)).session.id
    repository.ensure_session(Session(session_id="mine", folder_id="g", session_number=3))
    elsewhere = Session(folder_id="g", session_number=3)  # finds `mine`
    told = together(store, [elsewhere], [said(derived, "i1")])
    assert told == [["duplicate"], ["created"]]
    assert len(repository.transcript(derived, {"limit": 9})["interactions"]) == 1
    assert repository.transcript("mine", {"limit": 9})["interactions"] == []


def test_two_who_want_one_number_are_told_apart(repository: ConversationRepository, store: Store) -> None:
    repository.ensure_session(Session(session_id="u", folder_id="g", session_number=1))
    wants_it_elsewhere = Session(session_id="u", folder_id="h", session_number=5)
    told = together(store, [wants_it_elsewhere], [Session(folder_id="h", session_number=5)])
    assert told == [["conflict"], ["created"]]
    told = together(
        store,
        [Session(session_id="a", folder_id="h", session_number=6)],
        [Session(session_id="b", folder_id="h", session_number=6)],
    )
    assert sorted(told) == [["conflict"], ["created"]]
    assert {row["session_number"] for row in repository.folder("h", {"limit": 9})["sessions"]} == {5, 6}


def test_a_longer_plan_and_a_late_user_reach_every_planned_session(
    repository: ConversationRepository, store: Store
) -> None:
    def plan(weeks: int, **more: Any) -> Folder:
        stated = {"sessions_per_week": 1, "total_weeks": weeks, **more}
        return Folder.model_validate({"folder_id": "f", "plan": stated})

    repository.write([plan(2, starts_on="2026-01-05")])
    repository.write([Folder(folder_id="f", user_id="u")])
    repository.write([plan(3)])
    rows = repository.folder("f", {"limit": 9})["sessions"]
    assert [(row["scheduled_on"], row["user_id"]) for row in rows] == [
        ("2026-01-05", "u"),
        ("2026-01-12", "u"),
        ("2026-01-19", "u"),
    ]


def test_who_opens_a_planned_session_says_when_it_is(repository: ConversationRepository) -> None:
    plan = Folder.model_validate(
        {"folder_id": "f", "plan": {"sessions_per_week": 1, "total_weeks": 2, "starts_on": "2026-01-05"}}
    )
    repository.write([plan])
    opened = Session.model_validate({"folder_id": "f", "session_number": 1, "scheduled_on": "2026-01-06"})
    kept = repository.ensure_session(opened)
    assert (kept.receipt.receipt, kept.receipt.fields) == ("filled", ("scheduled_on",))
    (again,) = repository.write([plan])
    assert [each["receipt"] for each in again.receipt.planned] == ["duplicate", "duplicate"]
    assert repository.session(kept.session.id)["scheduled_on"] == "2026-01-06"
