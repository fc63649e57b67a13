"""An import stores every valid record once, and reports the others with their location and reason."""

import gzip
import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from logging_store.repository import ConversationRepository
from tests.archive import dialogues
from tests.archive.conftest import Flask, counted, flask_of, stored_rows, write
from tests.conftest import Backend


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def chat(name: str, *texts: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"id": name, "messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]}


def test_dialogues_come_in_by_one_command_and_once(
    flask: Flask, repository: ConversationRepository, backend: Backend, tmp_path: Path
) -> None:
    conversations = dialogues.read()
    sessions, interactions = dialogues.counted(conversations)
    assert interactions > sessions > 1
    file = tmp_path / "dialogues"
    file.symlink_to(dialogues.FILE)  # what can't be stored would be told beside the file
    first = flask("import", file, "--format", "sharegpt")
    assert first.exit_code == 0, first.output
    assert counted(first) == {"sessions": [sessions, 0, 0, 0, 0], "interactions": [interactions, 0, 0, 0, 0]}
    second = flask("import", file, "--format", "sharegpt")
    assert second.exit_code == 0, second.output
    assert counted(second) == {"sessions": [0, 0, sessions, 0, 0], "interactions": [0, 0, interactions, 0, 0]}
    assert stored_rows(backend) == (sessions, interactions)
    assert [path.name for path in tmp_path.iterdir()] == ["dialogues"]

    for dialogue in conversations:
        stored = repository.session(dialogue["id"])
        assert (stored["metadata"], stored["implicit"]) == ({"services": dialogue["services"]}, False)
        turns = repository.transcript(dialogue["id"], {"limit": 100})["interactions"]
        spoken = [text for each in turns for text in (each["prompt"], each["response"])]
        assert spoken == [turn["value"] for turn in dialogue["conversations"]]
        assert [each["turn"] for each in turns] == list(range(1, len(turns) + 1))


def test_sessions_that_only_their_interactions_name_are_counted(flask: Flask, tmp_path: Path) -> None:
    at = "2026-11-21T06:30:00Z"
    uuids = [str(uuid.uuid4()) for _ in range(10)]
    interactions = [
        {
            "record": "interaction",
            "interaction_id": uuids[n],
            "session_id": uuids[7 + n % 3],
            "created_at": at,
            "prompt": f"{n}",
            "status": "pending",
        }
        for n in range(7)
    ]
    lines = [{"record": "session", "session_id": uuids[7], "created_at": at}, *interactions]
    file = write(tmp_path / "log.jsonl", lines)
    result = flask("import", file, "--format", "turnlog", "--project", "beside")
    assert result.exit_code == 0, result.output
    assert counted(result) == {"sessions": [1, 0, 0, 0, 0], "interactions": [7, 0, 0, 0, 0]}
    assert "2 sessions created for interactions whose session wasn't there" in result.stdout
    assert "beside" in flask("projects", "list").stdout
    again = flask("import", file, "--format", "turnlog", "--project", "beside")
    assert "created for interactions" not in again.stdout


@pytest.mark.parametrize("layout", ["lines", "array", "gzip", "stdin", "gzip on stdin"])
def test_the_content_decides_the_layout(
    flask: Flask, tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chats = [chat(f"chat {n}", "Hi", "Ho", "Bye") for n in range(700)]
    lines = "".join(json.dumps(each) + "\n" for each in chats).encode()
    data = json.dumps(chats, indent=1).encode() if layout == "array" else lines
    data = gzip.compress(data) if "gzip" in layout else data
    if "stdin" in layout:
        result = flask("import", "-", "--format", "openai-chat", stdin=data)
    else:
        (tmp_path / "file").write_bytes(data)
        result = flask("import", "file", "--format", "openai-chat")
    assert result.exit_code == 0, result.output
    assert counted(result) == {"sessions": [700, 0, 0, 0, 0], "interactions": [1400, 0, 0, 0, 0]}


def test_rejected_records_are_reported_and_the_rest_is_stored(
    flask: Flask, repository: ConversationRepository, tmp_path: Path
) -> None:
    lines = [
        json.dumps(chat("good", "a", "b")),
        "{not json",
        json.dumps(chat("nul", "a\0b", "c", "d")),
        '{"id": "surrogate", "messages": [{"role": "user", "content": "\\ud800"}]}',
        json.dumps({"id": "shape", "messages": 5}),
        json.dumps(chat("null", "a")),
        json.dumps({"id": "deep", "messages": [], "choices": [], "x": 1}),
        json.dumps(chat("last", "a", "b")),
    ]
    file = write(tmp_path / "chats.jsonl", lines)
    result = flask("import", file, "--format", "openai-chat", "--report", tmp_path / "report")
    assert result.exit_code == 1, result.output
    assert counted(result) == {"sessions": [4, 0, 0, 0, 0], "interactions": [5, 0, 0, 0, 0]}
    assert "4 more rejected, which are not valid records" in result.stdout
    assert "2 with text that can't be stored: NUL became \u2400, half of a surrogate pair \ufffd" in result.stdout
    assert f"Rejected records and reasons: {file}.rejects.jsonl" in result.stdout
    told = rows(tmp_path / "chats.jsonl.rejects.jsonl")
    assert [each["line"] for each in told] == [2, 5, 6, 7]
    assert told[0]["text"] == "{not json"
    assert rows(tmp_path / "report") == [
        {"line": 3, "altered": ["$.messages[0].content"]},
        {"line": 4, "altered": ["$.messages[0].content"]},
    ]
    assert [each["prompt"] for each in repository.transcript("nul", {"limit": 9})["interactions"]] == ["a\u2400b", "d"]
    assert repository.transcript("surrogate", {"limit": 9})["interactions"][0]["prompt"] == "\ufffd"


def test_a_strict_service_rejects_the_turn_that_cannot_be_stored(
    backend: Backend, repository: ConversationRepository, tmp_path: Path
) -> None:
    flask = flask_of(backend.environment | {"TURNLOG_UNSTORABLE": "reject"})
    file = write(tmp_path / "chats.jsonl", [json.dumps(chat("nul", "a\0b", "c", "d"))])
    result = flask("import", file, "--format", "openai-chat")
    assert result.exit_code == 1, result.output
    (told,) = rows(tmp_path / "chats.jsonl.rejects.jsonl")
    assert told["reason"] == "$.prompt: Text can't hold the NUL character"
    assert [each["prompt"] for each in repository.transcript("nul", {"limit": 9})["interactions"]] == ["d"]


def test_a_conflict_is_reported_and_changes_nothing(
    flask: Flask, repository: ConversationRepository, tmp_path: Path
) -> None:
    assert flask("import", write(tmp_path / "a", [chat("x", "a", "b")]), "--format", "openai-chat").exit_code == 0
    changed = write(tmp_path / "b", [chat("w", "1"), chat("x", "a", "other", "c")])
    result = flask("import", changed, "--format", "openai-chat", "--rejects", tmp_path / "told")
    assert result.exit_code == 1
    assert counted(result) == {"sessions": [1, 0, 1, 0, 0], "interactions": [2, 0, 0, 1, 0]}
    assert [each["response"] for each in repository.transcript("x", {"limit": 9})["interactions"]] == ["b", None]
    (told,) = rows(tmp_path / "told")
    assert (told["line"], told["reason"]) == (2, "conflict: a different value is stored for response")
    assert told["record"]["response"] == "other"


def test_a_conversation_that_went_on_is_filled(
    flask: Flask, repository: ConversationRepository, tmp_path: Path
) -> None:
    flask("import", write(tmp_path / "a", [chat("x", "a")]), "--format", "openai-chat")
    result = flask("import", write(tmp_path / "b", [chat("x", "a", "b", "c")]), "--format", "openai-chat")
    assert (result.exit_code, counted(result)["interactions"]) == (0, [1, 1, 0, 0, 0])
    told = [(each["prompt"], each["response"]) for each in repository.transcript("x", {"limit": 9})["interactions"]]
    assert told == [("a", "b"), ("c", None)]


def test_records_of_an_erased_session_are_rejected_as_such(
    flask: Flask, repository: ConversationRepository, tmp_path: Path
) -> None:
    file = write(tmp_path / "a", [chat("x", "a", "b")])
    flask("import", file, "--format", "openai-chat")
    repository.erase("x")
    result = flask("import", file, "--format", "openai-chat")
    assert (result.exit_code, counted(result)) == (1, {"sessions": [0, 0, 0, 0, 1], "interactions": [0, 0, 0, 0, 1]})
    assert [each["reason"] for each in rows(tmp_path / "a.rejects.jsonl")] == ["rejected: erased"] * 2


def test_a_later_run_replaces_the_reports_of_an_earlier_one(flask: Flask, tmp_path: Path) -> None:
    file = write(tmp_path / "a", ["{"])
    assert flask("import", file, "--format", "sharegpt").exit_code == 1
    assert len(rows(tmp_path / "a.rejects.jsonl")) == 1
    write(file, [])
    assert flask("import", file, "--format", "sharegpt").exit_code == 0
    assert not (tmp_path / "a.rejects.jsonl").exists()


def test_errors_in_an_array_have_an_index_and_truncation_is_reported(flask: Flask, tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text(json.dumps([chat("x", "a"), 7, chat("y", "b")])[:-1], encoding="utf-8")
    result = flask("import", file, "--format", "openai-chat")
    assert (result.exit_code, counted(result)["sessions"]) == (1, [2, 0, 0, 0, 0])
    told = [(each["index"], each["reason"]) for each in rows(tmp_path / "a.rejects.jsonl")]
    assert told == [(1, "Must be an object"), (3, "The array has no end: the file is cut short")]


def test_a_truncated_gzip_is_imported_up_to_the_cut(flask: Flask, tmp_path: Path) -> None:
    chats = [chat(f"chat {n}", f"{n * 7919:x}" * 50) for n in range(3000)]
    file = tmp_path / "a.gz"
    file.write_bytes(gzip.compress("".join(json.dumps(each) + "\n" for each in chats).encode())[:-3000])
    result = flask("import", file, "--format", "openai-chat")
    created = counted(result)["sessions"][0]
    assert result.exit_code == 1
    assert 100 < created < 3000
    (told,) = rows(tmp_path / "a.gz.rejects.jsonl")
    assert told["line"] == created + 1
    assert "cut short" in told["reason"]


def test_repairs_are_reported_and_the_second_run_makes_the_same(
    flask: Flask, repository: ConversationRepository, tmp_path: Path
) -> None:
    def document(n: int, **more: Any) -> dict[str, Any]:
        return {"_id": {"$oid": f"d{n}"}, "messages": [{"role": "user", "content": f"c{n}"}], **more}

    file = write(
        tmp_path / "chats.json",
        [document(1, sessionId="s"), document(2, sessionId=None), document(3, sessionId="s"), document(4)],
    )
    for expected in ([4, 0, 0, 0, 0], [0, 0, 4, 0, 0]):
        result = flask("import", file, "--format", "mongoexport", "--report", tmp_path / "report")
        assert result.exit_code == 0, result.output
        assert counted(result) == {"sessions": expected, "interactions": expected}
        assert "3 session ids repaired" in result.stdout
        assert rows(tmp_path / "report") == [
            {"line": 2, "reason": "null", "was": None, "session_id": "mongo-d2"},
            {"line": 3, "reason": "repeated", "was": "s", "session_id": "mongo-d3"},
            {"line": 4, "reason": "missing", "was": None, "session_id": "mongo-d4"},
        ]
    prompts = {
        name: [each["prompt"] for each in repository.transcript(name, {"limit": 9})["interactions"]]
        for name in ("s", "mongo-d2", "mongo-d3", "mongo-d4")
    }
    assert prompts == {"s": ["c1"], "mongo-d2": ["c2"], "mongo-d3": ["c3"], "mongo-d4": ["c4"]}


@pytest.mark.parametrize("option", ["--rejects", "--report"])
@pytest.mark.parametrize("spelled", ["as it is", "another way", "linked"])
def test_a_report_never_overwrites_the_file(flask: Flask, tmp_path: Path, option: str, spelled: str) -> None:
    file = write(tmp_path / "chats.jsonl", [chat("x", "a"), "{"])
    before = file.read_bytes()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(file)
    given = {"as it is": file, "another way": tmp_path / "folder" / ".." / file.name, "linked": tmp_path / "link"}
    for one, other in ((file, given[spelled]), (given[spelled], file)):
        result = flask("import", one, "--format", "openai-chat", option, other)
        assert (result.exit_code, f"{option} is the FILE itself" in result.output) == (2, True), result.output
        assert file.read_bytes() == before


@pytest.mark.parametrize("rejects", [[], ["--rejects"]])
def test_rejects_and_report_are_two_files(flask: Flask, tmp_path: Path, rejects: list[str]) -> None:
    file = write(tmp_path / "a", [chat("x", "a"), "{"])
    told = tmp_path / "a.rejects.jsonl"
    given = [argument for option in rejects for argument in (option, told)]
    result = flask("import", file, "--format", "openai-chat", *given, "--report", told)
    assert (result.exit_code, "name two" in result.output) == (2, True)


@pytest.mark.parametrize("option", ["--rejects", "--report"])
def test_a_missing_folder_is_an_error_before_anything_is_read(flask: Flask, tmp_path: Path, option: str) -> None:
    result = flask("import", dialogues.FILE, "--format", "sharegpt", option, tmp_path / "nowhere" / "file")
    assert result.exit_code == 2
    assert "There is no folder" in result.output
    assert flask("export", "-o", tmp_path / "nowhere" / "file").exit_code == 2
