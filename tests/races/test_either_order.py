"""Concurrent writes give the same row in any order; of contradicting ones exactly one wins."""

from collections import Counter
from typing import Any

from logging_store.records.models import Interaction, Session
from logging_store.repository import ConversationRepository
from logging_store.store import Store
from tests.conftest import PROJECT
from tests.races.conftest import Arena
from tests.races.crew import Turn

SESSIONS = (
    "select to_jsonb(s) - '{id,key,created_at,earliest_turn_at}'::text[] from turnlog.ai_sessions s where key like %s"
)
INTERACTIONS = "select to_jsonb(i) - '{id,session_id,created_at}'::text[] from turnlog.ai_interactions i"


def error_receipt(store: Store, said: Session | Interaction) -> tuple[str, tuple[str, ...]]:
    repository = ConversationRepository(store, PROJECT)
    kept = repository.ensure_session(said) if isinstance(said, Session) else repository.log([said])[0]
    return kept.receipt.receipt, kept.receipt.fields


def create_or_log(store: Store, turn: Turn) -> Any:
    name = f"chat {turn.round}"
    said: list[Session | Interaction] = [
        Session.model_validate({"session_id": name, "user_id": "ada", "tags": ["b", "a"], "metadata": {"n": 1}}),
        Session.model_validate({"session_id": name, "title": "T", "started_at": "2026-11-21T06:30:00Z"}),
        Interaction(session_id=name, interaction_id="one", prompt="Hello"),
        Interaction(session_id=name, interaction_id="two", prompt="Hello again"),
    ]
    return error_receipt(store, said[turn.lane])


def test_create_and_log_give_the_same_row_in_either_order(arena: Arena) -> None:
    rounds = arena.race(create_or_log, rounds=200, processes=4, threads=1)

    winners = Counter(outcomes[0][0] for outcomes in rounds)
    assert set(winners) == {"created", "filled"}, "the race was always won by the same side"
    assert all(receipt in {"created", "filled"} for outcomes in rounds for receipt, _ in outcomes)
    rows = [row for (row,) in arena.rows(SESSIONS, "chat %")]
    assert len(rows) == 200
    assert all(row == rows[0] for row in rows)
    assert rows[0] == {
        "project": PROJECT, "user_id": "ada", "title": "T", "status": "open", "implicit": False, "tags": ["b", "a"],
        "metadata": {"n": 1}, "started_at": "2026-11-21T06:30:00+00:00", "ended_at": None, "erased_at": None,
        "text_expired_at": None,
        "edited": None, "claim": None, "folder_id": None, "session_number": None, "scheduled_on": None,
    }  # fmt: skip


def prompt_or_response(store: Store, turn: Turn) -> Any:
    name = {"session_id": f"chat {turn.round}", "interaction_id": "one"}
    said = [
        Interaction.model_validate({**name, "prompt": "Hello", "status": "pending", "turn": 1, "metadata": {"a": 1}}),
        Interaction.model_validate({**name, "response": "Hi", "latency_ms": 0.1, "metadata": {"b": [2]}}),
        Interaction.model_validate({**name, "response": "Hi", "status": "completed", "cost_usd": 1e-7}),
        Interaction.model_validate({**name, "prompt": "Hello", "tags": ["t"], "started_at": "2026-11-21T06:30:00Z"}),
    ]
    return error_receipt(store, said[turn.lane])


def test_a_prompt_and_its_response_give_the_same_row_in_either_order(arena: Arena) -> None:
    rounds = arena.race(prompt_or_response, rounds=200, processes=4, threads=1)

    assert len({tuple(receipt for receipt, _ in outcomes) for outcomes in rounds}) > 1, "always the same side won"
    for outcomes in rounds:
        assert Counter(receipt for receipt, _ in outcomes) == Counter(created=1, filled=3)
    rows = [row for (row,) in arena.rows(INTERACTIONS)]
    assert len(rows) == 200
    assert all(row == rows[0] for row in rows)
    stated = {field: value for field, value in rows[0].items() if value is not None}
    assert stated == {  # the status follows from the response
        "project": PROJECT, "key": "one", "prompt": "Hello", "response": "Hi", "turn": 1,
        "latency_ms": 0.1, "cost_usd": 1e-7, "tags": ["t"], "metadata": {"a": 1, "b": [2]},
        "started_at": "2026-11-21T06:30:00+00:00",
    }  # fmt: skip


def contradict(store: Store, turn: Turn) -> Any:
    name = f"chat {turn.round}"
    if turn.round % 2:
        return error_receipt(store, Session(session_id=name, title=f"Title {turn.lane}", metadata={"by": turn.lane}))
    said = Interaction(session_id=name, interaction_id="one", prompt=f"Prompt {turn.lane}", metadata={"by": turn.lane})
    return error_receipt(store, said)


def test_of_contradicting_writes_one_wins_and_the_others_get_a_conflict(arena: Arena) -> None:
    rounds = arena.race(contradict, rounds=100, processes=4, threads=2)

    titles = dict(
        arena.rows("select key, jsonb_build_array(title, metadata) from turnlog.ai_sessions where not implicit")
    )
    prompts = dict(
        arena.rows(
            "select s.key, jsonb_build_array(i.prompt, i.metadata)"
            " from turnlog.ai_interactions i join turnlog.ai_sessions s on s.id = i.session_id"
        )
    )
    assert (len(titles), len(prompts)) == (50, 50)
    winners: set[int] = set()
    for number, outcomes in enumerate(rounds):
        kind, kept = ("title", titles) if number % 2 else ("prompt", prompts)
        (winner,) = [lane for lane, outcome in enumerate(outcomes) if outcome == ("created", ())]
        winners.add(winner)
        assert kept[f"chat {number}"] == [f"{kind.capitalize()} {winner}", {"by": winner}]
        losers = [outcome for lane, outcome in enumerate(outcomes) if lane != winner]
        assert losers == [("conflict", (kind, "metadata.by"))] * 7
    assert len(winners) > 1, "the race was always won by the same lane"
