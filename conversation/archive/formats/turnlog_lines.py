"""Turnlog's own JSON lines: an export writes them, and importing them restores the same records in another store.

A line is one record, `{"record": "session", …}`, with its fields under the names of the API. Parents come before their
children, and a child names its session by id and by key, so files may be split and lines left out.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import jiter
from pydantic import ValidationError
from pydantic_core import to_json

from conversation.access.session_tokens import TOKEN_OWNER
from conversation.api import folders, schemas
from conversation.api.feedback import FeedbackView
from conversation.api.interactions import InteractionView
from conversation.archive.dialogues import describe_errors, to_text, without
from conversation.archive.entries import HERE, Document, Entry, ParsedRecord, RejectedEntry, Target
from conversation.archive.exporting import ExportItem, RevisionsOf
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

_DERIVED = {"interaction_count", "failed_count", "last_activity_at", "spooled", "statistics"} | {
    "alternatives",  # they follow from reply_to, alternative_to and chosen_at
    "question",
}
#: Of a session that a page opened, and of its children: nobody proved that its user_id is that user.
_UNPROVEN = "user_unproven"
_SAID = ("prompt", "response", "error")


def write(exported: Iterator[ExportItem]) -> Iterator[bytes]:
    """Yield the lines of all items."""
    for each in exported:
        if each.folder:
            yield _line("folder", folders.FolderView.arrange(each.folder))
        if each.session is None:
            continue
        # only a start that was sent: the other store derives its own
        session = schemas.SessionView.arrange(each.session) | {"started_at": each.session["started_at"]}
        yield _line("session", session | _unproven(each.session))
        yield from children(each.session, each.participants, each.interactions, each.revisions, each.feedback)


def children(
    session: ops.Session,
    participants: Iterable[ops.Participant],
    interactions: Iterable[ops.Interaction],
    revisions: RevisionsOf,
    feedback: Iterable[ops.Feedback] = (),
) -> Iterator[bytes]:
    """Yield the lines of a session's children."""
    of_session: dict[str, Any] = {"session_id": session["session_id"], "session_key": session["key"]}
    of_session |= _unproven(session)
    for participant in participants:
        yield _line("participant", of_session | schemas.ParticipantView.arrange(participant))
    for interaction in interactions:
        revised = {"revisions": list(map(_revision, revisions(interaction["interaction_id"])))}
        yield _line("interaction", of_session | InteractionView.arrange(interaction) | revised)
    for each in feedback:
        yield feedback_line(each, _unproven(session))


def feedback_line(row: ops.Feedback, more: Mapping[str, Any] = MappingProxyType({})) -> bytes:
    of_session = {"session_id": row["session_id"], "session_key": row["session_key"], **more}
    return _line("feedback", of_session | FeedbackView.arrange(row))


def _unproven(session: ops.Session) -> dict[str, bool]:
    owner = session["owner"]
    return {_UNPROVEN: True} if owner is not None and owner.startswith(TOKEN_OWNER) else {}


def _revision(row: ops.Revision) -> dict[str, Any]:
    """Return a revision without its id, which another store gives it anew."""
    stated = {"status": row["status"]} if row["status"] else {}
    return {"facts": row["facts"] | stated, "said_at": row["said_at"], "created_at": row["created_at"]}


def _line(record: str, row: dict[str, Any]) -> bytes:
    known = {
        name: value
        for name, value in row.items()
        if name not in _DERIVED and (name == "value" or value not in (None, [], {}))
    }
    return to_json({"record": record, **known}) + b"\n"


def read(documents: Iterable[Document | RejectedEntry], _: Target = HERE) -> Iterator[Entry]:
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
            yield ParsedRecord(document.location, record_of(without(line, "record", _UNPROVEN)))
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
