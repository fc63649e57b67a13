"""Turnlog's own JSON lines: an export writes them, and importing them restores the same records in another store.

A line is one record, `{"record": "session", …}`, with its fields under the names of the API. Parents come before their
children, and a child names its session by id and by key, so files may be split and lines left out.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jiter
from pydantic import ValidationError
from pydantic_core import to_json

from conversation.api import folders, schemas
from conversation.api.feedback import FeedbackView
from conversation.api.interactions import InteractionView
from conversation.archive.dialogues import describe_errors, to_text, without
from conversation.archive.entries import Document, Entry, ParsedRecord, RejectedEntry
from conversation.archive.exporting import ExportItem
from logging_store import operations as ops
from logging_store.records.models import (
    Record,
    RestoredFeedback,
    RestoredFolder,
    RestoredInteraction,
    RestoredParticipant,
    RestoredSession,
)
from logging_store.records.values import MAX_NAME

_DERIVED = {"erased_at", "interaction_count", "failed_count", "last_activity_at", "spooled", "statistics"}
_SAID = ("prompt", "response", "error")


def write(exported: Iterator[ExportItem]) -> Iterator[bytes]:
    """Yield the lines of all items."""
    for each in exported:
        if each.folder:
            yield _line("folder", folders.FolderView.arrange(each.folder))
        if each.session is None:
            continue
        yield _line("session", schemas.SessionView.arrange(each.session))
        yield from children(each.session, each.participants, each.interactions, each.feedback)


def children(
    session: ops.Session,
    participants: Iterable[ops.Participant],
    interactions: Iterable[ops.Interaction],
    feedback: Iterable[ops.Feedback] = (),
) -> Iterator[bytes]:
    """Yield the lines of a session's children."""
    of_session: dict[str, Any] = {"session_id": session["session_id"], "session_key": session["key"]}
    for participant in participants:
        yield _line("participant", of_session | schemas.ParticipantView.arrange(participant))
    for interaction in interactions:
        yield _line("interaction", of_session | InteractionView.arrange(interaction))
    for each in feedback:
        yield feedback_line(each)


def feedback_line(row: ops.Feedback) -> bytes:
    of_session = {"session_id": row["session_id"], "session_key": row["session_key"]}
    return _line("feedback", of_session | FeedbackView.arrange(row))


def _line(record: str, row: dict[str, Any]) -> bytes:
    known = {name: value for name, value in row.items() if name not in _DERIVED and value not in (None, [], {})}
    return to_json({"record": record, **known}) + b"\n"


def read(documents: Iterable[Document | RejectedEntry]) -> Iterator[Entry]:
    """Yield the records of lines."""
    for document in documents:
        if isinstance(document, RejectedEntry):
            yield document
            continue
        line = document.value
        record_of = _RECORDS.get(line["record"]) if isinstance(line.get("record"), str) else None
        if record_of is None:
            yield RejectedEntry(document.location, f"$.record: Must be one of {', '.join(_RECORDS)}", to_text(line))
            continue
        try:
            yield ParsedRecord(document.location, record_of(without(line, "record")))
        except ValidationError as error:
            yield RejectedEntry(document.location, describe_errors(error), to_text(line))


def _folder(line: dict[str, Any]) -> RestoredFolder:
    return RestoredFolder.model_validate(_renamed(line, "folder_id", "key"))


def _session(line: dict[str, Any]) -> RestoredSession:
    return RestoredSession.model_validate(_renamed(line, "session_id", "key"))


def _participant(line: dict[str, Any]) -> RestoredParticipant:
    return RestoredParticipant.model_validate(_renamed(line, "session_id", "session_key"))


def _interaction(line: dict[str, Any]) -> RestoredInteraction:
    named = _renamed(_renamed(line, "session_id", "session_key"), "interaction_id", "key")
    if isinstance(key := line.get("key"), str) and len(key) > MAX_NAME:
        # too long for a name, so it is a composite key as canonical JSON
        named = without(named, "interaction_id") | {"key": _parts(key)}
    if named.get("status") == _derived_status(named) and any(named.get(name) is not None for name in _SAID):
        # a derived status: leave it out, so that later facts can still change it; keep it if there is nothing else
        named = without(named, "status")
    return RestoredInteraction.model_validate(named)


def _feedback(line: dict[str, Any]) -> RestoredFeedback:
    key = line.get("interaction_key")
    if isinstance(key, str) and len(key) > MAX_NAME:  # a composite key is too long for a name, so the id identifies it
        line = without(line, "interaction_key")
    named = _renamed(line, "session_id", "session_key")
    return RestoredFeedback.model_validate(_renamed(named, "interaction_id", "interaction_key"))


_RECORDS: dict[str, Callable[[dict[str, Any]], Record]] = {
    "folder": _folder,
    "session": _session,
    "participant": _participant,
    "interaction": _interaction,
    "feedback": _feedback,
}


def _renamed(line: dict[str, Any], id_: str, key: str) -> dict[str, Any]:
    """Return a line with one name for a record: its key, from which the id is derived, or its id."""
    if key not in line:
        return line
    return without(line, key) | {id_: line[key]}


def _parts(key: str) -> Any:
    try:
        return jiter.from_json(key.encode())
    except ValueError:
        return key  # validation rejects it as no composite key


def _derived_status(line: dict[str, Any]) -> str:
    if line.get("error"):
        return "failed"
    return "pending" if line.get("response") is None else "completed"
