"""Hypothesis strategies for records and queries: few names and values, so that records often collide and contradict."""

from typing import Any

from hypothesis import strategies as st

from logging_store.records import identity
from logging_store.records.models import Interaction, Session, SessionChanges
from tests.conftest import PROJECT

# Few names, and several for one: by key, by the UUID that the key stands for, and by the same in capitals.
UUID_NAMED = "5e55a0ba-0000-4000-8000-000000000001"
SESSION_NAMES = ["chat", "Chat ü", identity.session(PROJECT, "chat").id, UUID_NAMED, UUID_NAMED.upper()]
INTERACTION_NAMES = ["one", "two", "10600000-0000-4000-8000-000000000001", "10600000-0000-4000-8000-00000000000A"]


def mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    """Draw the usual value most of the time, so that records agree about as often as they contradict."""
    return st.sampled_from([usual] * 12 + list(others))


def at(minute: int) -> str:
    return f"2026-11-21T06:{minute:02}:00+02:00"


session_names = st.sampled_from(SESSION_NAMES)
interaction_names = st.sampled_from(INTERACTION_NAMES)
tags = st.lists(st.sampled_from(["x", "y", "z"]), max_size=2, unique=True)
metadata = st.dictionaries(st.sampled_from(["a", "b c", ""]), mostly(1, "1", None, [None], {"n": 0.1}), max_size=2)

creates = st.fixed_dictionaries(
    {"session_id": session_names},
    optional={
        "user_id": mostly("ada", "bob"),
        "title": mostly("T", "", "U"),
        "tags": tags,
        "metadata": metadata,
        "started_at": mostly(at(30), at(31)),
        "ended_at": mostly(at(50), at(51)),
    },
).map(Session.model_validate)

_said = [
    {"role": role, "content": text} for role, text in (("system", "Be brief"), ("user", "Hello"), ("assistant", "Hi"))
]
_history = [*_said, {"role": "user", "content": "Bye"}]
more_of_an_interaction = {
    "context": mostly(_said, _said[:1], _said[1:2]),
    "model": mostly("m", "n"),
    "error": mostly("E", "F", ""),
    "status": mostly("completed", "pending", "failed", "abandoned"),
    "started_at": mostly(at(30), at(31)),
    "completed_at": mostly(at(40), at(41)),
    "latency_ms": mostly(0.1, 12),
    "input_tokens": mostly(2**53, 0),
    "cached_input_tokens": mostly(3, 0),
    "cost_usd": mostly(1e-7, 0),
    "reply_to": interaction_names,
    "alternative_to": interaction_names,
    "turn": st.sampled_from([1, 2]),
    "trace_id": st.sampled_from(["a" * 32, "b" * 32]),
    "tags": tags,
    "metadata": metadata,
}
prompts = {"prompt": mostly("Hello", "Bye", _said[1:2], _said[:2], _history)}
responses = {"response": mostly("Hi", "Ho", "", "Hi there", "H")}


def interactions(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[Interaction]:
    named = {"session_id": session_names, "interaction_id": interaction_names}
    return st.fixed_dictionaries(named | required, optional=optional).map(Interaction.model_validate)


logged = interactions(prompts, responses | more_of_an_interaction)
completions = interactions(responses, more_of_an_interaction)
edits = (
    st.fixed_dictionaries(
        {},
        optional={
            "title": st.sampled_from([None, "T", "Mended"]),
            "tags": st.none() | tags,
            "metadata": st.none() | metadata,
            "status": st.sampled_from(["open", "closed", "locked"]),
        },
    )
    .filter(bool)
    .map(SessionChanges.model_validate)
)
queries = st.fixed_dictionaries(
    {"limit": st.integers(1, 3)},
    optional={
        "user_id": st.sampled_from(["ada", "bob"]),
        "tag": st.sampled_from(["x", "y"]),
        "status": mostly("open", "closed"),
        "implicit": st.booleans(),
        "model": mostly("m", "n"),
        "has_errors": st.booleans(),
        "name": mostly("T", "mended", "HAT", "Ü"),
        "untagged": st.booleans(),
        "metadata": st.just([[{"a": "1"}, {"a": 1}]]),
        "min_turns": st.integers(0, 3),
        "max_turns": st.integers(0, 3),
        "sort": st.sampled_from(["newest", "oldest", "activity"]),
        "from": st.sampled_from([at(30), at(31)]),
        "to": st.sampled_from([at(31), "2026-11-21T12:00:01+00:00"]),
    },
)
