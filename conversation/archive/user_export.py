"""Exports all records of a user, as Turnlog's own lines: their sessions and folders, and their part in other sessions.

Of another user's session, only this user's own part is exported: how they took part, the interactions that name them,
and their feedback. A folder of another user is left out, even if it holds sessions of this one.
"""

from collections.abc import Iterator
from functools import partial

from flask import Blueprint, Response

from conversation import access
from conversation.api import caller, responses, schemas
from conversation.api.erasure import named_user
from conversation.api.openapi import LINES, describe
from conversation.archive import exporting
from conversation.archive.exporting import INTERACTIONS_AT_ONCE, SESSIONS_AT_ONCE, ExportItem, export_sessions
from conversation.archive.formats import turnlog_lines
from logging_store import operations as ops
from logging_store.errors import SessionErased, SessionNotFound
from logging_store.repository import ConversationRepository

blueprint = Blueprint("user_export", __name__)


@blueprint.get("/v1/users/<name:user>/export")
@access.requires("read", heavy=True)
@describe(
    "Export all records of a user, one JSON record per line", None, {200: schemas.ExportedLines}, media_type=LINES
)
def export_user(user: str) -> Response:
    return responses.streamed(user_lines(caller.repository(), named_user(user)), LINES)


def user_lines(repository: ConversationRepository, user: str) -> Iterator[bytes]:
    """Yield the lines of all records of a user. Raises `StoreUnavailable`."""
    yield from turnlog_lines.write(_own_items(repository, user))
    query = ops.ParticipationsQuery(user_id=user, limit=SESSIONS_AT_ONCE)
    for session in (row for page in ops.pages(repository.participations, query) for row in page["sessions"]):
        try:
            revised = exporting.revisions(repository, session["session_id"])
            yield from turnlog_lines.children(session, *_part_in(repository, session["session_id"], user), revised)
        except (SessionErased, SessionNotFound):
            continue  # erased during the export
    for page in ops.pages(repository.feedback_by, ops.FeedbackOptions(author=user, limit=SESSIONS_AT_ONCE)):
        yield from map(turnlog_lines.feedback_line, page["feedback"])


def _own_items(repository: ConversationRepository, user: str) -> Iterator[ExportItem]:
    exported_folders: set[str] = set()
    for item in export_sessions(repository, {"user_id": user}):
        folder = item.folder if item.folder and item.folder["user_id"] in {None, user} else None
        if folder:
            exported_folders.add(folder["folder_id"])
        yield item._replace(folder=folder)
    for page in ops.pages(repository.folders, ops.FoldersQuery(limit=SESSIONS_AT_ONCE, user_id=user)):
        yield from (ExportItem(folder) for folder in page["folders"] if folder["folder_id"] not in exported_folders)


def _part_in(
    repository: ConversationRepository, session_id: str, user: str
) -> tuple[list[ops.Participant], Iterator[ops.Interaction]]:
    """Return a user's participations in a session, and its interactions that name the user, in no particular order."""
    people = [row for row in repository.participants(session_id)["participants"] if row["participant"] == user]
    query = ops.TranscriptOptions(limit=INTERACTIONS_AT_ONCE, by="id")
    pages = ops.pages(partial(repository.transcript, session_id), query)
    return people, (turn for page in pages for turn in page["interactions"] if turn["participant"] == user)
