"""Erasing races appending: what is stored is erased with the session, later records are rejected."""

import os
from collections import Counter
from typing import Any

from logging_store.records.models import Interaction, Session
from logging_store.repository import ConversationRepository
from logging_store.store import Store
from tests.conftest import PROJECT
from tests.races.conftest import Arena
from tests.races.crew import Turn

ROUNDS = int(os.environ.get("RACE_ROUNDS", "120"))  # two erasures each
APPENDS = 2  # of one lane in one round: the erase falls before, among or after them


def append_or_erase(store: Store, turn: Turn) -> Any:
    """Erase the round's session in one lane of four, after as many appends as the dice say; append in the others."""
    repository = ConversationRepository(store, PROJECT)
    name = f"chat {turn.round}"
    erases = turn.lane % 4 == 0
    receipts: list[tuple[str, str | None]] = []
    for number in range(turn.dice.randint(0, APPENDS) if erases else APPENDS):
        said = Interaction(session_id=name, interaction_id=f"{turn.lane}-{number}", prompt="Hello")
        # two in one batch, beside a session that nobody erases
        beside = Interaction(session_id=f"beside {name}", interaction_id=f"{turn.lane}-{number}", prompt="Hello")
        kept, unharmed = repository.log([said, beside])
        receipts.append((kept.receipt.receipt, kept.receipt.reason))
        assert unharmed.receipt.receipt == "created"
    if not erases:
        return receipts, None
    repository.ensure_session(Session(session_id=name))  # so that there is something to erase
    return receipts, repository.erase(name)


def test_an_append_that_races_an_erasure_is_stored_and_erased_or_rejected(arena: Arena) -> None:
    rounds = arena.race(append_or_erase, rounds=ROUNDS, processes=4, threads=2)

    totals: Counter[tuple[str, str | None]] = Counter()
    for number, outcomes in enumerate(rounds):
        of_round = Counter(receipt for receipts, _ in outcomes for receipt in receipts)
        reports = [report for _, report in outcomes if report is not None]
        assert set(of_round) <= {("created", None), ("rejected", "erased")}
        # what was acknowledged is what was erased, by one of the two that erase
        assert sum(report["interactions"] for report in reports) == of_round["created", None], f"round {number}"
        assert len(reports) == 2
        assert len({report["erased_at"] for report in reports}) == 1
        totals += of_round
    assert min(totals["created", None], totals["rejected", "erased"]) > ROUNDS, f"hardly a race: {totals}"

    assert arena.rows("select count(*) from turnlog.ai_sessions where erased_at is not null") == [(ROUNDS,)]
    assert arena.rows(
        "select count(*) from turnlog.ai_interactions i"
        " left join turnlog.ai_sessions s on s.project = i.project and s.id = i.session_id"
        " where s.id is null or s.erased_at is not null"
    ) == [(0,)]
    assert arena.rows(
        "select to_jsonb(s) - '{project,id,created_at,erased_at}'::text[] from turnlog.ai_sessions s"
        " where erased_at is not null group by 1"
    ) == [
        ({"key": None, "user_id": None, "title": None, "status": "open", "implicit": False, "tags": None,
          "metadata": None, "started_at": None, "earliest_turn_at": None, "ended_at": None, "edited": None,
          "claim": None, "folder_id": None, "session_number": None, "scheduled_on": None,
          "text_expired_at": None},)
    ]  # fmt: skip
    assert arena.rows("select count(*) from turnlog.ai_interactions") == [(totals.total(),)]
