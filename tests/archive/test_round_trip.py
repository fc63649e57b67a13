"""export → import into an empty store → export gives the same bytes, whatever was logged and how."""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logging_store.records.models import (
    Feedback,
    Folder,
    Interaction,
    InteractionStatus,
    LoggedInteraction,
    Participant,
    Plan,
    Record,
    Session,
    SessionChanges,
)
from logging_store.repository import ConversationRepository
from tests.archive.conftest import counted, empty, flask_of, write
from tests.conftest import PROJECT, Backend
from tests.store_calls import expire_texts

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12) | st.sampled_from(
    ['"', "\\u0000", "a\r\nb", "=1+1", "\ufeff", "\u2028", "e\u0301", "\U0010ffff", " ", "\x01\x7f", "[]", "null"]
)
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=12).filter(
    lambda text: text.strip() and text.lower() not in {"null", "none", "undefined", ".", ".."}
)
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(TEXTS, JSON, max_size=4)
TIMES = st.datetimes(datetime(1900, 1, 2), datetime(8999, 12, 30), timezones=st.just(UTC)).map(  # noqa: DTZ001 - bounds
    lambda time: time.isoformat()
)
TAGS = st.lists(NAMES, unique=True, max_size=3)
AMOUNTS = st.floats(0, 1e12)
COUNTS = st.integers(0, 2**53)
MESSAGES = st.lists(
    st.builds(lambda role, content, more: {**more, "role": role, "content": content}, TEXTS, JSON, OBJECTS),
    min_size=1,
    max_size=3,
)
SESSION_IDS = st.sampled_from(["chat", "Größe 日本", "7f4a1d92-1111-4222-8333-444455556666"])
KEYS = st.dictionaries(NAMES, NAMES | st.booleans() | st.integers(-(2**53), 2**53), min_size=1, max_size=3)


def some(model: type[Record], required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[Record]:
    return st.fixed_dictionaries(required, optional=optional).map(model.model_validate)


SESSIONS = some(
    Session,
    {"session_id": SESSION_IDS},
    {
        "user_id": NAMES, "title": TEXTS, "tags": TAGS, "metadata": OBJECTS, "started_at": TIMES, "ended_at": TIMES,
        "status": st.sampled_from(["locked", "open", "closed"]),
    },
)  # fmt: skip
NUMBERED = some(Session, {"folder_id": st.sampled_from(["therapy", "empty"]), "session_number": st.integers(1, 4)}, {})
MORE_OF_AN_INTERACTION: dict[str, Any] = {
    "interaction_id": st.sampled_from(["1", "2", "x/y?", "0e1f2a3b-1111-4222-8333-444455556666"]),
    "response": TEXTS | MESSAGES, "model": NAMES, "provider": NAMES, "error": TEXTS, "finish_reason": NAMES,
    "status": st.sampled_from(["pending", "completed", "failed", "abandoned"]),
    "started_at": TIMES, "completed_at": TIMES, "latency_ms": AMOUNTS, "time_to_first_token_ms": AMOUNTS,
    "input_tokens": COUNTS, "output_tokens": COUNTS, "cached_input_tokens": COUNTS, "cache_write_tokens": COUNTS,
    "reasoning_tokens": COUNTS, "cost_usd": AMOUNTS, "participant": NAMES,
    "reply_to": st.sampled_from(["1", "2"]), "alternative_to": st.sampled_from(["1", "2"]),
    "trace_id": st.sampled_from(["a" * 32]), "span_id": st.sampled_from(["b" * 16]),
    "turn": COUNTS, "tags": TAGS, "metadata": OBJECTS,
}  # fmt: skip
INTERACTIONS = some(Interaction, {"session_id": SESSION_IDS, "prompt": TEXTS | MESSAGES}, MORE_OF_AN_INTERACTION)
REVISED = some(
    LoggedInteraction,
    {
        "session_id": st.just("chat"),
        "interaction_id": st.sampled_from(["1", "2"]),
        "prompt": TEXTS | MESSAGES,
        "on_conflict": st.just("revise"),
    },
    {name: each for name, each in MORE_OF_AN_INTERACTION.items() if name not in {"interaction_id", "participant"}},
)
STATUSES = some(
    Interaction,
    {"session_id": SESSION_IDS, "status": MORE_OF_AN_INTERACTION["status"]},
    {name: MORE_OF_AN_INTERACTION[name] for name in ("interaction_id", "error", "model", "turn", "tags", "metadata")},
)
KEYED = some(Interaction, {"key": KEYS, "prompt": TEXTS}, {"session_id": SESSION_IDS})
PARTICIPANTS = some(
    Participant,
    {"session_id": SESSION_IDS, "participant": NAMES},
    {"role": NAMES, "state": st.sampled_from(["reserved", "confirmed", "joined", "left"])},
)
FEEDBACK_ON = {"session_id": SESSION_IDS, "interaction_id": MORE_OF_AN_INTERACTION["interaction_id"] | st.none()}
FEEDBACK_BY: dict[str, Any] = {"name": NAMES, "author": NAMES, "given_at": TIMES}
FEEDBACK = some(
    Feedback,
    {**FEEDBACK_ON, "value": st.booleans() | st.floats(-1e12, 1e12) | st.integers(-(10**12), 10**12) | NAMES},
    {**FEEDBACK_BY, "comment": TEXTS.filter(bool)},
) | some(Feedback, {**FEEDBACK_ON, "value": st.none()}, FEEDBACK_BY)
FOLDERS = some(
    Folder,
    {"folder_id": st.sampled_from(["therapy", "other"])},
    {
        "name": TEXTS, "user_id": NAMES, "metadata": OBJECTS,
        "plan": st.just(Plan.model_validate({"sessions_per_week": 2, "total_weeks": 1, "starts_on": "2026-11-23"})),
    },
)  # fmt: skip
RECORDS = st.lists(
    SESSIONS | NUMBERED | INTERACTIONS | REVISED | STATUSES | KEYED | PARTICIPANTS | FEEDBACK | FOLDERS, max_size=12
)
CHANGES = some(SessionChanges, {"status": st.sampled_from(["locked", "closed"])}, {"title": TEXTS, "metadata": OBJECTS})


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=RECORDS, changes=st.none() | CHANGES, chooses=st.booleans())
def test_an_exported_log_is_restored_to_the_byte(
    backend: Backend,
    repository: ConversationRepository,
    other: Backend,
    tmp_path: Path,
    *,
    records: list[Record],
    changes: SessionChanges | None,
    chooses: bool,
) -> None:
    empty(backend)
    empty(other)
    file = tmp_path / "log.jsonl"
    kept = [record for record, kept in zip(records, repository.write(records), strict=True) if kept.receipt.stored]
    if changes and any(isinstance(each, Session) and each.session_id == "chat" for each in kept):
        repository.edit("chat", changes)
    if chooses and (turns := [each for each in kept if isinstance(each, Interaction) and each.interaction_id]):
        assert turns[0].session_id is not None
        assert turns[0].interaction_id is not None
        repository.choose(turns[0].session_id, turns[0].interaction_id)
    assert flask_of(backend.environment)("export", "-o", file).exit_code == 0
    lines = file.read_bytes().count(b"\n")
    assert lines >= len({type(each) for each in kept if not isinstance(each, LoggedInteraction)})
    for outcome in (0, 2):  # created, and the second time duplicates
        restored = flask_of(other.environment)("import", file, "--format", "turnlog")
        assert restored.exit_code == 0, restored.output
        assert sum(counts[outcome] for counts in counted(restored).values()) == lines, restored.output
        assert flask_of(other.environment)("export").stdout_bytes == file.read_bytes()


STATED: list[InteractionStatus] = ["pending", "completed", "failed", "abandoned"]


def test_all_kinds_of_records_are_in_it(backend: Backend, other: Backend, tmp_path: Path) -> None:
    log = ConversationRepository(backend.open(), PROJECT)
    long_key = {f"part {n}": "x" * 40 for n in range(8)}
    log.write(
        [
            Folder(folder_id="therapy", plan=Plan(sessions_per_week=2, total_weeks=1)),
            Folder(folder_id="empty", name="Nothing in it"),
            Session(folder_id="therapy", session_number=2, title="Opened"),
            Participant(session_id="chat", participant="ada", role="patient", state="confirmed"),
            Interaction(session_id="chat", interaction_id="1", prompt="a", participant="bob", turn=1),
            Interaction(session_id="chat", prompt="b", response="c", reply_to="1", turn=2),
            Interaction(key=long_key, error="broken"),
            Feedback(session_id="chat", interaction_id="1", value=True, comment="Nice", author="ada"),
            Feedback(session_id="chat", interaction_id="never logged", value="Hm", name="note"),
            Feedback(session_id="chat", value=5, name="score"),
            Feedback(session_id="chat", value=None, name="solved", author="ada"),
            *(Interaction(session_id="chat", status=status, turn=turn) for turn, status in enumerate(STATED, 3)),
        ]
    )
    log.edit("chat", SessionChanges(status="closed"))
    log.write([Interaction(session_id="chat", interaction_id="erased", prompt="secret", turn=9)])
    log.erase_interaction("chat", "erased")
    file = tmp_path / "log.jsonl"
    assert flask_of(backend.environment)("export", "-o", file).exit_code == 0
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert Counter(line["record"] for line in lines) == {
        "folder": 2, "session": 4, "participant": 2, "interaction": 8, "feedback": 4
    }  # fmt: skip
    assert [line["record"] for line in lines if "Nothing" in line.get("name", "")] == ["folder"]
    sessions = {line["session_id"]: line for line in lines if line["record"] == "session"}
    assert sorted((line["status"], line["implicit"]) for line in sessions.values()) == [
        ("closed", True), ("locked", True), ("open", False), ("open", True)
    ]  # fmt: skip
    assert flask_of(other.environment)("import", file, "--format", "turnlog").exit_code == 0
    assert flask_of(other.environment)("export").stdout_bytes == file.read_bytes()
    restored = ConversationRepository(other.open(), PROJECT)
    said = {row["name"]: row for row in restored.feedback("chat", {"limit": 10})["feedback"]}
    assert (said["rating"]["interaction_key"], said["note"]["interaction_key"]) == ("1", None)
    assert [said[name]["interaction_id"] for name in ("score", "solved")] == [None, None]
    assert (said["solved"]["author"], said["solved"]["value"]) == ("ada", None)
    again = flask_of(other.environment)("import", file, "--format", "turnlog")
    assert again.exit_code == 0, again.output
    (late,) = restored.write([Interaction(session_id="chat", interaction_id="erased", prompt="secret", turn=9)])
    assert (late.receipt.receipt, late.receipt.reason) == ("rejected", "erased"), "a tombstone is restored, too"
    (keyed,) = restored.write([Interaction(key=long_key, error="broken")])
    assert keyed.receipt.receipt == "duplicate"


def test_expired_texts_stay_expired_in_another_store(backend: Backend, other: Backend, tmp_path: Path) -> None:
    store = backend.open()
    log = ConversationRepository(store, PROJECT)
    turn = Interaction(session_id="chat", interaction_id="1", prompt="secret", response="word", cost_usd=0.5)
    failed = Interaction(session_id="chat", interaction_id="2", error="Timeout after 12345 ms")
    records = [
        Session(session_id="chat", title="Secret"),
        turn,
        failed,
        Interaction(session_id="chat", status="pending"),
    ]
    log.write(records)
    expire_texts(store)
    file = tmp_path / "log.jsonl"
    assert flask_of(backend.environment)("export", "-o", file).exit_code == 0
    assert b"ecret" not in file.read_bytes()
    for _ in range(2):
        restored = flask_of(other.environment)("import", file, "--format", "turnlog")
        assert restored.exit_code == 0, restored.output
        assert flask_of(other.environment)("export").stdout_bytes == file.read_bytes()
    late = ConversationRepository(other.open(), PROJECT).write(records)
    assert [each.receipt.receipt for each in late] == ["duplicate", "rejected", "rejected", "created"]
    assert flask_of(other.environment)("export").stdout_bytes.count(b"ecret") == 0
    training = flask_of(backend.environment)("export", "--format", "openai-chat", "--unanswered")
    assert b"expired" not in training.stdout_bytes


def test_revisions_are_restored(backend: Backend, other: Backend, tmp_path: Path) -> None:
    log = ConversationRepository(backend.open(), PROJECT)

    def said(**fields: Any) -> LoggedInteraction:
        named = {"session_id": "chat", "interaction_id": "1", "on_conflict": "revise"}
        return LoggedInteraction.model_validate(named | fields)

    for n in range(120):  # more revisions than are read ahead
        log.write([said(prompt=f"{n}?", response="a" * n, metadata={"n": n}, completed_at=1_772_359_200 + n % 60)])
    log.write([Interaction(session_id="chat", interaction_id="2", status="failed", error=error) for error in "ab"])
    log.write([Interaction(session_id="chat", interaction_id="2", response="c")])
    file = tmp_path / "log.jsonl"
    assert flask_of(backend.environment)("export", "-o", file).exit_code == 0
    first, second = [json.loads(line) for line in file.read_bytes().splitlines()[1:]]
    assert len(first["revisions"]) == 100
    assert [each["facts"] for each in second["revisions"]] == [{"error": "a", "status": "failed"}]
    assert flask_of(other.environment)("import", file, "--format", "turnlog").exit_code == 0
    assert flask_of(other.environment)("export").stdout_bytes == file.read_bytes()
    restored = ConversationRepository(other.open(), PROJECT)
    assert restored.write([said(prompt="3?")])[0].receipt.receipt == "duplicate"


def test_facts_of_a_revision_are_validated(backend: Backend, tmp_path: Path) -> None:
    at = {"created_at": "2026-11-21T06:30:00Z"}
    line = {"record": "interaction", "session_id": "s", "interaction_id": "i", "prompt": "p", **at}
    wrong = [{"colour": "red"}, {"participant": "ada"}, {"prompt": 5}]
    revised = [{"revisions": [{"facts": facts, "said_at": at["created_at"], **at}]} for facts in wrong]
    file = write(tmp_path / "log.jsonl", [line | each for each in revised])
    result = flask_of(backend.environment)("import", file, "--format", "turnlog")
    assert result.exit_code == 1
    told = [json.loads(each)["reason"] for each in (tmp_path / "log.jsonl.rejects.jsonl").read_text().splitlines()]
    assert [each.split(":")[0] for each in told] == [
        f"$.revisions[0].facts.{name}" for name in ("colour", "participant", "prompt")
    ]


def test_branches_and_choices_are_restored(backend: Backend, other: Backend, tmp_path: Path) -> None:
    log = ConversationRepository(backend.open(), PROJECT)

    def said(name: str, second: int, alternative_to: str | None = None) -> Interaction:
        at = f"2026-11-21T06:30:0{second}Z"
        return Interaction.model_validate(
            {
                "session_id": "chat",
                "interaction_id": name,
                "prompt": name,
                "started_at": at,
                "alternative_to": alternative_to,
            }
        )

    def branch(of: ConversationRepository) -> list[Any]:
        return [(row["key"], row["chosen_at"]) for row in of.branch("chat", {"limit": 10})["interactions"]]

    log.write([said("a", 1), said("b", 2), said("b2", 3, "b"), said("b3", 4, "b2"), said("c3", 5)])
    log.choose("chat", "b2")
    file = tmp_path / "log.jsonl"
    assert flask_of(backend.environment)("export", "-o", file).exit_code == 0
    assert b"alternatives" not in file.read_bytes()
    assert flask_of(other.environment)("import", file, "--format", "turnlog").exit_code == 0
    restored = ConversationRepository(other.open(), PROJECT)
    assert flask_of(other.environment)("export").stdout_bytes == file.read_bytes()
    assert branch(restored) == branch(log)
    assert [key for key, _ in branch(log)] == ["a", "b2"]

    restored.choose("chat", "b3")  # later than the choice in the file, which neither undoes it nor contradicts
    assert flask_of(other.environment)("import", file, "--format", "turnlog").exit_code == 0
    assert [key for key, _ in branch(restored)] == ["a", "b3", "c3"]


def test_invalid_lines_are_reported(backend: Backend, tmp_path: Path) -> None:
    at = "2026-11-21T06:30:00Z"
    file = write(
        tmp_path / "log.jsonl",
        [
            {"record": "session", "session_id": "a", "created_at": at},
            {"record": "cat"},
            {"session_id": "b"},
            {"record": "session", "session_id": "b"},
            {"record": "session", "session_id": "c", "created_at": at, "colour": "red"},
            {"record": "interaction", "session_id": "a", "prompt": "p", "created_at": at, "key": "x" * 201},
        ],
    )
    result = flask_of(backend.environment)("import", file, "--format", "turnlog")
    assert (result.exit_code, counted(result)["sessions"]) == (1, [1, 0, 0, 0, 0])
    told = [json.loads(line) for line in (tmp_path / "log.jsonl.rejects.jsonl").read_text().splitlines()]
    assert [(each["line"], each["reason"].split(":")[0]) for each in told] == [
        (2, "$.record"), (3, "$.record"), (4, "$.created_at"), (5, "$.colour"), (6, "$.key")
    ]  # fmt: skip
