"""A merge races the guest's writes: whatever the order, everything of the guest is the user's in the end."""

import os
from collections import Counter
from typing import Any

from logging_store.records.models import Feedback, Folder, Interaction, Record, Session
from logging_store.repository import ConversationRepository
from logging_store.store import Store
from tests.conftest import PROJECT
from tests.races.conftest import Arena
from tests.races.crew import Turn

ROUNDS = int(os.environ.get("RACE_ROUNDS", "80"))  # two merges each
WRITES = 3  # of one lane in one round: the merge falls before, among or after them


def write_or_merge(store: Store, turn: Turn) -> Any:
    """Merge the round's guest in one lane of four, into a user who is merged herself in another; write in the rest."""
    repository = ConversationRepository(store, PROJECT)
    guest, user, last = (f"{name} {turn.round}" for name in ("guest", "user", "last"))
    role = turn.lane % 4
    if role < 2:
        report = repository.merge_user(guest, user) if role == 0 else repository.merge_user(user, last)
        return [], report["sessions"]
    receipts = []
    for number in range(WRITES):
        name = f"{turn.lane}-{number} {turn.round}"
        records: list[Record] = [
            Session(session_id=name, user_id=turn.dice.choice([guest, user])),
            Interaction(session_id=name, interaction_id="1", prompt="Hello", participant=guest),
            Feedback(session_id=f"shared {turn.round}", value=number, author=guest, name=name),
            Folder(folder_id=name, user_id=guest),
        ]
        receipts += [kept.receipt.receipt for kept in repository.write(records)]
    return receipts, None


def test_what_a_guest_writes_while_being_merged_becomes_the_users(arena: Arena) -> None:
    rounds = arena.race(write_or_merge, rounds=ROUNDS, processes=4, threads=2)
    receipts = Counter(receipt for outcomes in rounds for each, _ in outcomes for receipt in each)
    assert receipts == {"created": ROUNDS * 4 * WRITES * 4}
    moved = [sum(count or 0 for _, count in outcomes) for outcomes in rounds]
    assert sum(moved) > 0, "no merge ever came after a write"
    assert any(count < 4 * WRITES for count in moved), "no merge ever came before a write"
    for table, column in (
        ("ai_sessions", "user_id"), ("ai_session_folders", "user_id"), ("ai_session_participants", "participant"),
        ("ai_interactions", "participant"), ("ai_feedback", "author"),
    ):  # fmt: skip
        named = (
            f"select left(t.{column}, 4), count(*) from turnlog.{table} as t where t.{column} is not null group by 1"  # noqa: S608
        )
        found = arena.rows(named)
        assert found == [("last", ROUNDS * 4 * WRITES)], table
