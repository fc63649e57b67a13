"""Everything about a user, as Turnlog's own lines: their sessions and folders, and what they said in other people's.

Of a session of somebody else only the user's own part is told: how they took part, the interactions that name them, and
what they said of others. A folder of somebody else is left out, even where it holds sessions of theirs.
"""

from collections.abc import Iterator
from typing import Any

from conversation.archive import turnlog
from conversation.archive.exporting import INTERACTIONS_AT_ONCE, SESSIONS_AT_ONCE, Exported, everything
from conversation.store_commands import every
from logging_store.errors import SessionErased, SessionNotFound
from logging_store.repository import ConversationRepository


def write(repository: ConversationRepository, user: str) -> Iterator[bytes]:
    """Yield the lines of all that there is of a user. Raises `StoreUnavailable`."""
    yield from turnlog.write(_theirs(repository, user))
    for session in every("sessions", lambda query: repository.participations(user, query), {"limit": SESSIONS_AT_ONCE}):
        try:
            yield from turnlog.children(session, *_part_of(repository, session["session_id"], user))
        except (SessionErased, SessionNotFound):
            continue  # meanwhile
    for row in every("feedback", lambda query: repository.feedback_by(user, query), {"limit": SESSIONS_AT_ONCE}):
        yield turnlog.feedback_line(row)


def _theirs(repository: ConversationRepository, user: str) -> Iterator[Exported]:
    told: set[str] = set()
    for each in everything(repository, {"user_id": user}):
        folder = each.folder if each.folder and each.folder["user_id"] in {None, user} else None
        if folder:
            told.add(folder["folder_id"])
        yield each._replace(folder=folder)
    for folder in every("folders", repository.folders, {"limit": SESSIONS_AT_ONCE, "user_id": user}):
        if folder["folder_id"] not in told:
            yield Exported(folder)


def _part_of(
    repository: ConversationRepository, session_id: str, user: str
) -> tuple[list[dict[str, Any]], Iterator[dict[str, Any]]]:
    """Return how a user takes part in a session, and which of its interactions name them, in no certain order."""
    people = [row for row in repository.participants(session_id)["participants"] if row["participant"] == user]
    turns = every(
        "interactions",
        lambda query: repository.transcript(session_id, query),
        {"limit": INTERACTIONS_AT_ONCE, "by": "id"},
    )
    return people, (turn for turn in turns if turn["participant"] == user)
