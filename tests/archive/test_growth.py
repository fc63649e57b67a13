"""A file that grew is imported as what it is: the same conversations, a few turns longer."""

from pathlib import Path
from typing import Any

import pytest

from logging_store.records.models import Session
from logging_store.repository import ConversationRepository
from tests.archive.conftest import Flask, counted, stored_rows, write
from tests.conftest import Backend

Json = dict[str, Any]


def said(*texts: str) -> list[Json]:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


def from_value(*texts: str) -> list[Json]:
    return [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]


def turns(repository: ConversationRepository, name: str) -> list[tuple[Any, Any]]:
    return [(each["prompt"], each["response"]) for each in repository.transcript(name, {"limit": 99})["interactions"]]


def test_when_a_file_was_made_contradicts_nothing(
    flask: Flask, repository: ConversationRepository, tmp_path: Path
) -> None:
    for update, texts, interactions in ((1, "ab", [1, 0, 0, 0, 0]), (2, "abcd", [1, 0, 1, 0, 0])):
        document = {"id": "gr-1", "update_time": update, "message_count": len(texts), "messages": said(*texts)}
        result = flask("import", write(tmp_path / f"{update}", [document]), "--format", "openai-chat")
        assert result.exit_code == 0, result.output
        assert counted(result)["interactions"] == interactions
        assert counted(result)["sessions"] == [int(update == 1), 0, int(update == 2), 0, 0]
    assert turns(repository, "gr-1") == [("a", "b"), ("c", "d")]
    assert repository.session("gr-1")["metadata"] == {"update_time": 1, "message_count": 2}
    # what a person may have said otherwise does
    other = {"id": "gr-1", "update_time": 3, "source": "x", "messages": said("a", "b")}
    assert flask("import", write(tmp_path / "3", [other]), "--format", "openai-chat").exit_code == 0
    changed = {**other, "source": "y"}
    result = flask("import", write(tmp_path / "4", [changed]), "--format", "openai-chat")
    assert (result.exit_code, counted(result)["sessions"]) == (1, [0, 0, 0, 1, 0])


def test_a_dialogue_without_an_id_goes_on_with_the_one_that_it_begins_like(
    flask: Flask, repository: ConversationRepository, backend: Backend, tmp_path: Path
) -> None:
    for texts, interactions in (("ab", [1, 0, 0, 0, 0]), ("abcd", [1, 0, 1, 0, 0]), ("abcde", [1, 0, 2, 0, 0])):
        file = write(tmp_path / texts, [{"conversations": from_value(*texts)}])
        result = flask("import", file, "--format", "sharegpt")
        assert (result.exit_code, counted(result)["interactions"]) == (0, interactions), result.output
    answered = write(tmp_path / "f", [{"conversations": from_value(*"abcdef")}])
    assert counted(flask("import", answered, "--format", "sharegpt"))["interactions"] == [0, 1, 2, 0, 0]
    assert stored_rows(backend) == (1, 3)
    (session,) = repository.sessions({"limit": 9})["sessions"]
    assert turns(repository, session["session_id"]) == [("a", "b"), ("c", "d"), ("e", "f")]


def test_dialogues_that_only_begin_alike_stay_apart(flask: Flask, backend: Backend, tmp_path: Path) -> None:
    lines: list[Json] = [{"conversations": from_value("Hi", "Hello", *rest)} for rest in (("a", "b"), ("c", "d"), ())]
    lines.append({"conversations": from_value("Hi", "Hello"), "lang": "en"})
    file = write(tmp_path / "file", lines)
    for sessions in ([4, 0, 0, 0, 0], [0, 0, 4, 0, 0]):
        result = flask("import", file, "--format", "sharegpt")
        assert (result.exit_code, counted(result)["sessions"]) == (0, sessions), result.output
    assert stored_rows(backend) == (4, 6)


def test_a_shorter_dialogue_of_the_same_file_is_its_beginning(flask: Flask, backend: Backend, tmp_path: Path) -> None:
    file = write(tmp_path / "file", [{"messages": said(*texts)} for texts in ("ab", "abcd", "abc")])
    for interactions in ([2, 0, 3, 0, 0], [0, 0, 5, 0, 0]):
        result = flask("import", file, "--format", "openai-chat")
        assert (result.exit_code, counted(result)["interactions"]) == (0, interactions), result.output
    assert stored_rows(backend) == (1, 2)


@pytest.mark.every_store
def test_known_sessions_are_found_by_key_and_by_id(repository: ConversationRepository) -> None:
    uuid = "7f4a1d92-1111-4222-8333-444455556666"
    repository.write([Session(session_id=name) for name in ("Größe", uuid, "gone")])
    repository.erase("gone")
    assert repository.known_sessions([]) == set()
    assert repository.known_sessions(["Größe", uuid.upper(), "gone", "nobody"]) == {"Größe", uuid.upper(), "gone"}


def test_a_question_that_was_answered_later_is_filled(
    flask: Flask, repository: ConversationRepository, tmp_path: Path
) -> None:
    def rows(count: int) -> list[Json]:
        every = [
            {"_id": {"$oid": "1"}, "chatId": "c", "role": "user", "content": "a", "device": "phone"},
            {"_id": {"$oid": "2"}, "chatId": "c", "role": "bot", "content": "b", "device": "server"},
        ]
        return every[:count]

    for count, interactions in ((1, [1, 0, 0, 0, 0]), (2, [0, 1, 0, 0, 0]), (2, [0, 0, 1, 0, 0])):
        result = flask("import", write(tmp_path / "rows", rows(count)), "--format", "mongoexport")
        assert (result.exit_code, counted(result)["interactions"]) == (0, interactions), result.output
    assert turns(repository, "c") == [("a", "b")]
