"""An export has what the filters match, in a format that others read, once and completely."""

import csv
import gzip
import io
import json
import os
import stat
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from conversation.archive import exporting
from logging_store import operations as ops
from logging_store.records.models import Feedback, Folder, Interaction, Session
from logging_store.repository import ConversationRepository
from logging_store.store import Store
from tests.archive.conftest import Flask, counted
from tests.conftest import PROJECT, Backend


def session(**fields: Any) -> Session:
    return Session.model_validate(fields)


def interaction(**fields: Any) -> Interaction:
    return Interaction.model_validate(fields)


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout_bytes.splitlines()]


def keys(result: Result) -> list[str]:
    return sorted(line["key"] for line in lines(result) if line["record"] == "session")


@pytest.fixture
def some_sessions(repository: ConversationRepository) -> None:
    repository.write(
        [
            session(
                session_id="a",
                user_id="ada",
                tags=["x"],
                started_at="2026-01-01T00:00:00Z",
                metadata={"channel": "web"},
            ),
            session(
                session_id="b",
                user_id="bob",
                tags=["x", "y"],
                started_at="2026-02-01T00:00:00Z",
                metadata={"channel": "web", "n": 2},
            ),
            session(session_id="c", user_id="ada", status="closed", started_at="2026-03-01T00:00:00Z"),
            session(session_id="gone"),
            *(interaction(session_id=name, prompt=f"in {name}") for name in ("a", "b", "c", "gone")),
        ]
    )
    repository.erase("gone")


@pytest.fixture
def rated_session(some_sessions: None, repository: ConversationRepository) -> None:
    one = repository.transcript("b", {"limit": 1})["interactions"][0]["interaction_id"]
    repository.write([Feedback.model_validate({"session_id": "b", "interaction_id": one, "value": False})])


@pytest.mark.usefixtures("rated_session")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "abc"),
        (["--user-id", "ada"], "ac"),
        (["--tag", "x"], "ab"),
        (["--status", "closed"], "c"),
        (["--from", "2026-02-01T00:00:00Z"], "bc"),
        (["--to", "2026-02-01T00:00:00Z"], "a"),
        (["--from", "2026-01-15T00:00:00+02:00", "--to", "2026-02-15T00:00:00Z", "--tag", "y"], "b"),
        (["--user-id", "nobody"], ""),
        (["--session", "b"], "b"),
        (["--untagged"], "c"),
        (["--metadata", "channel=web"], "ab"),
        (["--metadata", "channel=web", "--metadata", "n=2"], "b"),
        (["--rating", "false"], "b"),
        (["--unrated", "--user-id", "ada"], "ac"),
        (["--min-turns", "1", "--max-turns", "1"], "abc"),
        (["--min-turns", "2"], ""),
    ],
)
def test_filters_match_the_same_as_the_list(flask: Flask, options: list[str], expected: str) -> None:
    result = flask("export", *options)
    assert keys(result) == list(expected)
    assert result.stderr.splitlines()[1:] == [f"{len(expected):,} sessions, {len(expected):,} interactions"]
    assert [line["prompt"] for line in lines(result) if line["record"] == "interaction"] == [
        f"in {line['key']}" for line in lines(result) if line["record"] == "session"
    ]


@pytest.mark.usefixtures("some_sessions")
def test_a_filter_that_is_none_is_refused(flask: Flask) -> None:
    assert "--from: Must be an ISO 8601 date and time with a zone" in flask("export", "--from", "today").stderr
    assert "--status: " in flask("export", "--status", "asleep").stderr
    assert "--metadata: Write a key and its value" in flask("export", "--metadata", "web").stderr
    assert "--min-turns: Must be a whole number" in flask("export", "--min-turns", "few").stderr
    assert "leave the filters out" in flask("export", "--session", "a", "--tag", "x").stderr
    for name in ("nobody", "gone"):
        refused = flask("export", "--session", name)
        assert refused.exit_code == 1
        assert f"\nError: {name}: " in refused.stderr


@pytest.mark.usefixtures("some_sessions")
def test_a_project_is_exported_by_its_name(flask: Flask, repository: ConversationRepository) -> None:
    ConversationRepository(repository.store, "shop").write([session(session_id="of the shop")])
    assert keys(flask("export", "--project", "shop")) == ["of the shop"]
    assert "of the shop" not in keys(flask("export"))
    assert "--project" in flask("export", "--project", "no name!").stderr


@pytest.mark.usefixtures("some_sessions")
def test_a_file_is_whole_or_not_there(flask: Flask, tmp_path: Path) -> None:
    for name in ("log.jsonl", "log.jsonl.gz"):
        assert flask("export", "-o", tmp_path / name).exit_code == 0
    plain = (tmp_path / "log.jsonl").read_bytes()
    zipped = (tmp_path / "log.jsonl.gz").read_bytes()
    assert gzip.decompress(zipped) == plain == flask("export").stdout_bytes
    assert flask("export", "-o", tmp_path / "again.gz").exit_code == 0
    assert (tmp_path / "again.gz").read_bytes() == zipped
    assert flask("export", "--session", "nobody", "-o", tmp_path / "log.jsonl").exit_code == 1
    assert (tmp_path / "log.jsonl").read_bytes() == plain
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.gz", "log.jsonl", "log.jsonl.gz"]


def test_fine_tuning_lines_have_messages_and_nothing_else(flask: Flask, repository: ConversationRepository) -> None:
    system = {"role": "system", "content": "S"}
    called = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    call = {"role": "assistant", "content": None, "tool_calls": [called]}
    result = {"role": "tool", "content": "T", "tool_call_id": "c"}
    answer = {"role": "assistant", "content": "42", "said_at": "2026-11-21T06:30:00Z"}
    repository.write(
        [
            interaction(session_id="a", turn=1, prompt=[system, {"role": "user", "content": "q"}]),
            interaction(session_id="a", turn=2, prompt="r", response=[call, result, answer]),
            interaction(session_id="a", turn=3, prompt="s", response="t"),
            interaction(session_id="a", turn=4, error="broken"),
            session(session_id="empty"),
        ]
    )  # fmt: skip
    (line,) = lines(flask("export", "--format", "openai-chat"))
    assert line == {
        "messages": [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "r"},
            call,
            result,
            {"role": "assistant", "content": "42"},
            {"role": "user", "content": "s"},
            {"role": "assistant", "content": "t"},
        ]
    }


def test_fine_tuning_lines_come_back_in(flask: Flask, repository: ConversationRepository, tmp_path: Path) -> None:
    repository.log([interaction(session_id="a", turn=n, prompt=f"q{n}", response=f"a{n}") for n in range(1, 4)])
    assert flask("export", "--format", "openai-chat", "-o", tmp_path / "chats").exit_code == 0
    result = flask("import", tmp_path / "chats", "--format", "openai-chat")
    assert counted(result) == {"sessions": [1, 0, 0, 0, 0], "interactions": [3, 0, 0, 0, 0]}
    one, other = (line["messages"] for line in lines(flask("export", "--format", "openai-chat")))
    assert one == other


def test_a_table_has_each_cell_as_it_was(flask: Flask, repository: ConversationRepository) -> None:
    odd = ['a "quoted", cell', "two\r\nlines\n\rand\r", "=1+1", "@cmd", " padded ", "", "\ufeff", "日本語"]
    logged = [
        interaction(session_id="Größe", interaction_id=f"n,{n}", turn=n, prompt=text, tags=["x", "y"], cost_usd=0.1,
                    response=[{"role": "a", "content": text}], metadata={"text": text})
        for n, text in enumerate(odd)
    ]  # fmt: skip
    repository.write([session(session_id="Größe", user_id="ada", title="T;i"), *logged])
    result = flask("export", "--format", "csv")
    assert result.exit_code == 0
    rows = list(csv.DictReader(io.StringIO(result.stdout_bytes.decode(), newline="")))
    assert [row["prompt"] for row in rows] == odd
    assert [json.loads(row["response"]) for row in rows] == [each.response for each in logged]
    assert [json.loads(row["metadata"]) for row in rows] == [{"text": text} for text in odd]
    assert {(row["session_key"], row["user_id"], row["title"], row["tags"]) for row in rows} == {
        ("Größe", "ada", "T;i", '["x","y"]')
    }  # fmt: skip
    assert [(row["key"], row["turn"], row["cost_usd"]) for row in rows] == [(f"n,{n}", str(n), "0.1") for n in range(8)]
    assert {row["model"] for row in rows} == {""}


def test_folders_come_with_the_sessions_that_are_let_through(flask: Flask, repository: ConversationRepository) -> None:
    repository.write([Folder(folder_id=name) for name in ("f1", "f2", "f3")])
    repository.write([session(folder_id="f1", session_number=n, user_id="ada") for n in (1, 2)])
    repository.write([session(folder_id="f2", session_number=1, user_id="bob")])

    def folders(*options: str) -> list[str]:
        return sorted(line["key"] for line in lines(flask("export", *options)) if line["record"] == "folder")

    assert folders() == ["f1", "f2", "f3"]
    assert folders("--user-id", "ada") == ["f1"]


def test_existing_records_are_exported_once_while_others_write(
    backend: Backend, repository: ConversationRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers move sessions and interactions in their usual orders; an export meets each one once all the same."""
    monkeypatch.setattr(exporting, "SESSIONS_AT_ONCE", 3)
    monkeypatch.setattr(exporting, "INTERACTIONS_AT_ONCE", 4)
    names = [f"chat {n}" for n in range(40)]
    turns = [(name, f"i{n}") for name in names for n in range(15)]
    repository.log([interaction(session_id=name, interaction_id=turn, prompt="p") for name, turn in turns])
    stop = threading.Event()
    writers = ConversationRepository(backend.open(), PROJECT)

    def write() -> None:
        for n in range(10_000):
            if stop.is_set():
                return
            # a session that gains a start and an interaction that gains a turn change their places in the lists
            name = names[n * 7 % 40]
            writers.write(
                [
                    session(session_id=name, started_at=f"202{n % 9}-01-{1 + n % 28:02d}T00:00:00Z"),
                    interaction(session_id=name, interaction_id=f"i{n * 4 % 15}", prompt="p", turn=n * 11 % 17),
                    interaction(session_id=f"new {n}", prompt="p"),
                ]
            )

    thread = threading.Thread(target=write)
    thread.start()
    try:
        met = Counter(
            (each.session["key"], row["key"])
            for each in exporting.export_sessions(repository, {})
            if each.session and not str(each.session["key"]).startswith("new")
            for row in each.interactions
        )
    finally:
        stop.set()
        thread.join()
    assert met == dict.fromkeys(turns, 1)


def test_an_interaction_that_gains_a_turn_between_two_pages_is_met_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "INTERACTIONS_AT_ONCE", 3)

    class Meddled(ConversationRepository):
        """After each page somebody counts a turn of an interaction that then is the first of the transcript."""

        counted = 0

        def transcript(self, name: str, query: ops.TranscriptOptions) -> ops.TranscriptPage[ops.SessionRef]:
            page = super().transcript(name, query)
            for n in (self.counted, 11 - self.counted):
                self.log([interaction(session_id=name, interaction_id=f"i{n}", prompt="p", turn=12 - self.counted)])
            self.counted += 1
            return page

    repository = Meddled(store, PROJECT)
    repository.log([interaction(session_id="a", interaction_id=f"i{n}", prompt="p") for n in range(12)])
    (exported,) = exporting.export_sessions(repository, {})
    assert sorted(str(row["key"]) for row in exported.interactions) == sorted(f"i{n}" for n in range(12))
    assert repository.counted >= 4


def test_a_long_transcript_is_given_out_in_its_order(
    repository: ConversationRepository, flask: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "INTERACTIONS_AT_ONCE", 5)
    times = [f"2026-01-01T00:00:0{second}{part}Z" for second in (3, 1, 2) for part in (".0005", "", ".12")]
    repository.log(
        [
            *(interaction(session_id="a", prompt=f"turn {n}", turn=n) for n in (10, 9, 0, 100, 2)),
            *(interaction(session_id="a", prompt=f"at {time}", started_at=time) for time in times),
            *(interaction(session_id="a", prompt=f"arrived {n}") for n in range(6)),
        ]
    )
    in_order = [row["prompt"] for row in repository.transcript("a", {"limit": 100})["interactions"]]
    exported = [line["prompt"] for line in lines(flask("export")) if line["record"] == "interaction"]
    assert exported == in_order
    assert len(in_order) == 20


def test_a_session_that_is_erased_meanwhile_is_left_out(
    repository: ConversationRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "INTERACTIONS_AT_ONCE", 2)
    repository.log([interaction(session_id=f"s{n}", prompt="p") for n in range(30) for _ in range(5)])
    met: list[int] = []
    for each in exporting.export_sessions(repository, {}):
        assert each.session
        if not met:
            for n in range(30):
                repository.erase(f"s{n}")
        met.append(len(list(each.interactions)))
    # pages that had been asked for before are there, nothing else
    assert len(met) <= 9
    assert set(met) <= {0, 2}


def test_an_export_and_an_imports_rejects_are_their_owners_to_read(
    flask: Flask, some_sessions: None, tmp_path: Path
) -> None:
    """Whatever the umask is, and whoever could read the file that is replaced or left behind by another run."""
    before = os.umask(0)
    try:
        victim = tmp_path / "victim"
        for name in ("log.jsonl", "log.jsonl.partial", "in.jsonl.rejects.jsonl"):
            (tmp_path / name).write_text("before")
        (tmp_path / "log.jsonl.partial").unlink()
        (tmp_path / "log.jsonl.partial").symlink_to(victim)
        assert flask("export", "--output", tmp_path / "log.jsonl").exit_code == 0
        (tmp_path / "in.jsonl").write_text('{"record": "nothing of ours"}\n')
        assert flask("import", tmp_path / "in.jsonl", "--format", "turnlog").exit_code == 1
    finally:
        os.umask(before)
    for name in ("log.jsonl", "in.jsonl.rejects.jsonl"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        assert "before" not in (tmp_path / name).read_text()
    assert not victim.exists()
