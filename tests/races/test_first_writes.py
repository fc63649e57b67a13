"""Concurrent first writes to one session create one row each."""

from collections import Counter
from typing import Any

from logging_store.records import identity
from logging_store.records.models import Interaction, Session
from logging_store.repository import ConversationRepository, WriteResult
from logging_store.store import Store
from tests.conftest import PROJECT
from tests.races.conftest import Arena
from tests.races.crew import Turn

INTERACTIONS = 12  # of a session; several lanes log each
KEYS = 5  # sessions that are born in one round


def receipt(kept: WriteResult) -> tuple[str, str, tuple[str, ...]]:
    """Return who it is about, and what became of it."""
    return (kept.interaction or kept.session).id, kept.receipt.receipt, kept.receipt.fields


def first_write(store: Store, turn: Turn) -> tuple[str, str, tuple[str, ...]]:
    """Create the round's session or log to it: each lane one of the two, some by its key and some by its UUID."""
    repository = ConversationRepository(store, PROJECT)
    key = f"chat {turn.round}"
    name = identity.session(PROJECT, key).id if turn.lane % 3 == 0 else key
    if turn.lane % 4 == 1:
        return receipt(repository.ensure_session(Session(session_id=name, title="Hello", metadata={"a": [1, None]})))
    number = turn.lane % INTERACTIONS
    said = Interaction(session_id=name, interaction_id=f"turn {number}", prompt=f"Said {number}", turn=number)
    return receipt(repository.log([said])[0])


def test_64_threads_in_4_processes_make_their_first_write_to_one_session(arena: Arena) -> None:
    rounds = arena.race(first_write, rounds=200, processes=4, threads=16)

    creates = sum(1 for lane in range(64) if lane % 4 == 1)
    born: set[str] = set()
    for number, outcomes in enumerate(rounds):
        session = identity.session(PROJECT, f"chat {number}").id
        by_id: dict[str, Counter[str]] = {}
        for about, became, _ in outcomes:
            by_id.setdefault(about, Counter())[became] += 1
        # the session is made by a create, or by an interaction and then adopted by a create
        of_creates = by_id.pop(session)
        assert of_creates.total() == creates
        assert of_creates - Counter(duplicate=creates) <= Counter(created=1, filled=creates), of_creates
        assert of_creates["created"] <= 1
        # the twelve interactions: created once each, duplicates for everybody else
        assert len(by_id) == len({lane % INTERACTIONS for lane in range(64) if lane % 4 != 1})
        for became in by_id.values():
            assert became["created"] == 1
            assert set(became) <= {"created", "duplicate"}, became
        born |= by_id.keys()

    assert arena.rows(
        "select key, title, metadata, implicit, tags, status from turnlog.ai_sessions order by length(key), key"
    ) == [(f"chat {n}", "Hello", {"a": [1, None]}, False, None, "open") for n in range(200)]
    stored = arena.rows("select id::text, key, prompt, turn from turnlog.ai_interactions")
    assert {row[0] for row in stored} == born
    assert len(stored) == len(born)
    assert all((key, prompt) == (f"turn {turn}", f"Said {turn}") for _, key, prompt, turn in stored)


def keyed_write(store: Store, turn: Turn) -> list[Any]:
    """Log to several sessions at once, in an order and under names of one's own."""
    said: list[Interaction] = []
    for number in turn.dice.sample(range(KEYS), KEYS):
        key = f"chat {turn.round}-{number}"
        name = key if turn.dice.random() < 0.8 else identity.session(PROJECT, key).id
        said.append(Interaction(session_id=name, interaction_id="the first", prompt="Hello"))
    return [receipt(kept) for kept in ConversationRepository(store, PROJECT).log(said)]


def test_the_same_new_keys_at_once_are_neither_an_error_nor_a_false_conflict(arena: Arena) -> None:
    rounds = arena.race(keyed_write, rounds=60, processes=4, threads=6)

    for outcomes in rounds:
        by_id: dict[str, Counter[str]] = {}
        for about, became, _ in (one for batch in outcomes for one in batch):
            by_id.setdefault(about, Counter())[became] += 1
        assert list(by_id.values()) == [Counter(created=1, duplicate=23)] * KEYS
    assert sorted(arena.rows("select key from turnlog.ai_sessions")) == sorted(
        (f"chat {round_}-{number}",) for round_ in range(60) for number in range(KEYS)
    )
