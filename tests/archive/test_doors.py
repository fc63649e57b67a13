"""One chat comes out the same from a file or a table as over HTTP, and exports lead back to what was imported."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from conversation.archive import documents
from conversation.archive.entries import ParsedRecord
from conversation.archive.formats import chatgpt, claude, mongoexport, openai_chat, sharegpt
from logging_store.records.models import Interaction
from tests.archive import training_rules
from tests.archive.conftest import Flask, flask_of, write
from tests.archive.test_chat_programs import chatgpt as chatgpt_node
from tests.archive.test_chat_programs import conversation
from tests.archive.test_export import lines
from tests.conftest import Backend
from tests.http_calls import in_path, transcript
from tests.turns import corpus

Item = dict[str, Any]
WRITTEN = corpus.written()
PLAIN = [name for name, dialogue in corpus.DIALOGUES.items() if not corpus.has_tools(dialogue)]
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def exchanges(reader: Any, *found: Item) -> list[tuple[Any, Any]]:
    """Return prompts and responses of what a reader makes of documents; nothing may be rejected."""
    text = "\n".join(json.dumps(document) for document in found).encode()
    entries = list(reader(documents.read(io.BytesIO(text))))
    assert all(isinstance(each, ParsedRecord) for each in entries), entries
    records = [each.record for each in entries if isinstance(each, ParsedRecord)]
    return [(own(each.prompt), own(each.response)) for each in records if isinstance(each, Interaction)]


def own(content: Any) -> Any:
    """Return a content without the ids and times that a file has of its messages, and HTTP was sent none of."""
    if not isinstance(content, list):
        return content
    return [{name: value for name, value in item.items() if name not in {"id", "said_at"}} for item in content]


def with_ids(items: list[Item], id_: str, time: str) -> list[Item]:
    return [
        {**item, id_: f"m{n}", time: (BEGAN + timedelta(seconds=n)).isoformat().replace("+00:00", "Z")}
        for n, item in enumerate(items)
    ]


@pytest.mark.parametrize(("shape", "name", "items", "dialogue"), WRITTEN, ids=[f"{s}, {n}" for s, n, _, _ in WRITTEN])
def test_every_shape_comes_out_the_same_from_files(
    shape: str, name: str, items: list[Item], dialogue: corpus.Dialogue
) -> None:
    expected = corpus.expected(dialogue)
    assert exchanges(openai_chat.read, {"id": "a", "messages": items}) == expected, (shape, name)
    assert exchanges(openai_chat.read, {"messages": items}) == expected
    assert exchanges(sharegpt.read, {"id": "a", "conversations": items}) == expected


@pytest.mark.parametrize("name", list(corpus.DIALOGUES))
def test_a_dialogue_comes_out_the_same_from_mongodb(name: str) -> None:
    dialogue = corpus.DIALOGUES[name]
    items = with_ids(corpus.openai_chat(dialogue), "_id", "createdAt")
    assert exchanges(mongoexport.read, {"_id": 1, "sessionId": "a", "messages": items}) == corpus.expected(dialogue)
    rows = [{"chatId": "a", **item} for item in items]
    assert exchanges(mongoexport.read, *reversed(rows)) == corpus.expected(dialogue)


@pytest.mark.parametrize("name", list(corpus.DIALOGUES))
def test_a_dialogue_comes_out_the_same_from_exports_of_chat_programs(name: str) -> None:
    dialogue = corpus.DIALOGUES[name]
    said = [
        {"sender": item.pop("role"), **item, "attachments": [], "files": []}
        for item in with_ids(corpus.anthropic(dialogue), "uuid", "created_at")
    ]
    assert exchanges(claude.read, {"uuid": "a", "name": "A", "chat_messages": said}) == corpus.expected(dialogue)
    if name in PLAIN and name != "texts of all kinds":  # a blank answer says nothing there
        nodes = [
            chatgpt_node(f"m{n}", f"m{n - 1}" if n else "root", each.role, each.text, BEGAN.timestamp() + n)
            for n, each in enumerate(dialogue)
        ]
        assert exchanges(chatgpt.read, conversation("a", *nodes)) == corpus.expected(dialogue)


def test_what_came_over_http_is_known_when_its_file_is_imported(
    client: FlaskClient, flask: Flask, tmp_path: Path
) -> None:
    """Ids derive from what was said, whoever says it."""
    for name, dialogue in corpus.DIALOGUES.items():
        items = corpus.openai_chat(dialogue)
        assert client.post(f"{in_path(name)}/messages", json={"messages": items}).status_code == 201
    before = {name: len(transcript(client, name)) for name in corpus.DIALOGUES}
    file = write(
        tmp_path / "chats", [{"id": name, "messages": corpus.openai_chat(corpus.DIALOGUES[name])} for name in before]
    )
    result = flask("import", file, "--format", "openai-chat")
    assert result.exit_code == 0, result.output
    assert {name: len(transcript(client, name)) for name in before} == before


def in_other(other: Backend, file: Path) -> Callable[..., Any]:
    flask = flask_of(other.environment)
    result = flask("import", file, "--format", "openai-chat")
    assert result.exit_code == 0, result.output
    return flask


def test_an_export_for_training_leads_back_to_the_same_export(flask: Flask, other: Backend, tmp_path: Path) -> None:
    chats = [
        {
            "id": name,
            "messages": corpus.openai_chat(dialogue),
            "tools": [{"type": "function", "function": {"name": "f"}}],
        }
        for name, dialogue in corpus.DIALOGUES.items()
    ]
    result = flask("import", write(tmp_path / "chats", chats), "--format", "openai-chat")
    assert result.exit_code == 0, result.output
    once = lines(flask("export", "--format", "openai-chat"))
    for line in once:
        training_rules.check_chat(line)
    answered = {name: corpus.openai_chat(dialogue) for name, dialogue in corpus.DIALOGUES.items()}
    assert [item for item in answered["tool chain"]] in [line["messages"] for line in once]  # noqa: C416 - a copy
    again = lines(in_other(other, write(tmp_path / "once", once))("export", "--format", "openai-chat"))
    assert sorted(map(json.dumps, again)) == sorted(map(json.dumps, once))


def test_imported_chats_are_restored_to_the_byte(flask: Flask, other: Backend, tmp_path: Path) -> None:
    chats = [{"id": name, "messages": corpus.anthropic(dialogue)} for name, dialogue in corpus.DIALOGUES.items()]
    assert flask("import", write(tmp_path / "chats", chats), "--format", "openai-chat").exit_code == 0
    exported = flask("export").stdout_bytes
    (tmp_path / "log").write_bytes(exported)
    restored = flask_of(other.environment)
    assert restored("import", tmp_path / "log", "--format", "turnlog").exit_code == 0
    assert restored("export").stdout_bytes == exported
