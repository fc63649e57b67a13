"""Everything about a user, as Turnlog's own lines: their sessions and folders, and what they said in other people's.

Of a session of somebody else only the user's own part is told: how they took part, the interactions that name them, and
what they said of others. A folder of somebody else is left out, even where it holds sessions of theirs.
"""

from collections.abc import Iterator
from functools import partial

from conversation.archive.exporting import INTERACTIONS_AT_ONCE, SESSIONS_AT_ONCE, Exported, everything
from conversation.archive.formats import turnlog_lines
from logging_store import operations as ops
from logging_store.errors import SessionErased, SessionNotFound
from logging_store.repository import ConversationRepository


def write(repository: ConversationRepository, user: str) -> Iterator[bytes]:
    """Yield the lines of all that there is of a user. Raises `StoreUnavailable`."""
    yield from turnlog_lines.write(_theirs(repository, user))
    others = ops.ParticipationsQuery(user_id=user, limit=SESSIONS_AT_ONCE)
    for session in (row for page in ops.pages(repository.participations, others) for row in page["sessions"]):
        try:
            yield from turnlog_lines.children(session, *_part_of(repository, session["session_id"], user))
        except (SessionErased, SessionNotFound):
            continue  # meanwhile
    for said in ops.pages(repository.feedback_by, ops.FeedbackOptions(author=user, limit=SESSIONS_AT_ONCE)):
        yield from map(turnlog_lines.feedback_line, said["feedback"])


def _theirs(repository: ConversationRepository, user: str) -> Iterator[Exported]:
    told: set[str] = set()
    for each in everything(repository, {"user_id": user}):
        folder = each.folder if each.folder and each.folder["user_id"] in {None, user} else None
        if folder:
            told.add(folder["folder_id"])
        yield each._replace(folder=folder)
    for page in ops.pages(repository.folders, ops.FoldersQuery(limit=SESSIONS_AT_ONCE, user_id=user)):
        yield from (Exported(folder) for folder in page["folders"] if folder["folder_id"] not in told)


def _part_of(
    repository: ConversationRepository, session_id: str, user: str
) -> tuple[list[ops.Participant], Iterator[ops.Interaction]]:
    """Return how a user takes part in a session, and which of its interactions name them, in no certain order."""
    people = [row for row in repository.participants(session_id)["participants"] if row["participant"] == user]
    query = ops.TranscriptOptions(limit=INTERACTIONS_AT_ONCE, by="id")
    pages = ops.pages(partial(repository.transcript, session_id), query)
    return people, (turn for page in pages for turn in page["interactions"] if turn["participant"] == user)
