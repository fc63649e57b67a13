"""Exports the log session by session, with at most a page of interactions of each in memory.

Sessions are read in the order of their ids, which never change, so each session that existed when the export began is
exported exactly once, whatever is written meanwhile. The same holds for its interactions: a short transcript is read at
one moment, a long one in the order of its ids. A session that is erased meanwhile is left out.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from typing import NamedTuple, cast

from conversation.archive.disk_index import DiskIndex
from conversation.archive.entries import Location
from logging_store import operations as ops
from logging_store.errors import SessionErased, SessionNotFound
from logging_store.log_reader import NamedFeedbackQuery
from logging_store.records.json_values import NO_TURN
from logging_store.repository import ConversationRepository

SESSIONS_AT_ONCE = 200
_PREFETCH = 8  # sessions whose first pages are read ahead, since most of the time is latency
INTERACTIONS_AT_ONCE = 100  # rows of a page; up to `_PREFETCH` pages are in memory


class ExportItem(NamedTuple):
    """A session with its children; consume them before taking the next item. `interactions`: in transcript order.

    `folder` comes with the first of its sessions; a folder without sessions is an item of its own.
    """

    folder: ops.Folder | None
    session: ops.Session | None = None
    participants: Sequence[ops.Participant] = ()
    interactions: Iterator[ops.Interaction] = iter(())
    feedback: Iterator[ops.Feedback] = iter(())


class _Prefetched(NamedTuple):
    """What is read ahead of a session: participants, and the first pages of its transcript and feedback."""

    participants: list[ops.Participant]
    page: ops.TranscriptPage[ops.SessionRef]
    feedback: ops.FeedbackPage[ops.SessionRef]


def export_sessions(
    repository: ConversationRepository, filters: ops.IdFilters, only: str | None = None
) -> Iterator[ExportItem]:
    """Yield the sessions that match the filters, or `only` one, and without filters all folders as well.

    Raises `StoreUnavailable`; for `only`, also `SessionNotFound` or `SessionErased`.
    """
    query = cast("ops.SessionsByIdQuery", {**filters, "limit": SESSIONS_AT_ONCE})
    sessions = (
        iter([repository.session(only)])
        if only is not None
        else (row for page in ops.pages(repository.sessions_by_id, query) for row in page["sessions"])
    )
    with (
        closing(DiskIndex()) as exported_folders,
        ThreadPoolExecutor(_PREFETCH, thread_name_prefix="export") as threads,
    ):
        queue: deque[tuple[ops.Session, Future[_Prefetched | None]]] = deque()
        for session in sessions:
            queue.append((session, threads.submit(_prefetch, repository, session["session_id"])))
            if len(queue) == _PREFETCH:
                yield from _exported(repository, *queue.popleft(), exported_folders)
        while queue:
            yield from _exported(repository, *queue.popleft(), exported_folders)
        if not filters and only is None:
            for page in ops.pages(repository.folders, ops.FoldersQuery(limit=SESSIONS_AT_ONCE)):
                for folder in page["folders"]:
                    if exported_folders.claim(folder["folder_id"], ""):
                        yield ExportItem(folder)


def _exported(
    repository: ConversationRepository,
    session: ops.Session,
    awaited: Future[_Prefetched | None],
    exported_folders: DiskIndex,
) -> Iterator[ExportItem]:
    if (prefetched := awaited.result()) is None:
        return
    folder_id = session["folder_id"]
    folder = None
    if folder_id is not None and exported_folders.claim(folder_id, session["session_id"]):
        folder = repository.folder(folder_id, {"limit": 1})["folder"]
    id_ = session["session_id"]
    turns = _interactions(repository, id_, prefetched.page)
    yield ExportItem(folder, session, prefetched.participants, turns, _feedback(repository, id_, prefetched.feedback))


def _prefetch(repository: ConversationRepository, session_id: str) -> _Prefetched | None:
    try:
        return _Prefetched(
            repository.participants(session_id)["participants"],
            repository.transcript(session_id, {"limit": INTERACTIONS_AT_ONCE}),
            repository.feedback(session_id, {"limit": INTERACTIONS_AT_ONCE}),
        )
    except (SessionErased, SessionNotFound):
        return None


def transcript(repository: ConversationRepository, session_id: str) -> Iterator[ops.Interaction]:
    """Yield a session's interactions in transcript order."""
    return _interactions(repository, session_id, repository.transcript(session_id, {"limit": INTERACTIONS_AT_ONCE}))


def feedback(repository: ConversationRepository, session_id: str) -> Iterator[ops.Feedback]:
    """Yield the feedback on a session's interactions."""
    return _feedback(repository, session_id, repository.feedback(session_id, {"limit": INTERACTIONS_AT_ONCE}))


def _interactions(
    repository: ConversationRepository, session_id: str, first: ops.TranscriptPage[ops.SessionRef]
) -> Iterator[ops.Interaction]:
    if first["after"] is None:
        yield from first["interactions"]
        return
    # read by id: an interaction that gains a turn number meanwhile could appear twice or never in transcript order
    with closing(DiskIndex()) as disk:
        for n, row in enumerate(_by_id(repository, session_id)):
            disk.put(session_id, _sort_key(row), Location("index", n), {**row})
        for _, rows in disk.groups():
            yield from (cast("ops.Interaction", row) for _, row in rows)


def _feedback(
    repository: ConversationRepository, session_id: str, page: ops.FeedbackPage[ops.SessionRef]
) -> Iterator[ops.Feedback]:
    yield from page["feedback"]
    if page["after"] is not None:
        onward = NamedFeedbackQuery(limit=INTERACTIONS_AT_ONCE, after=page["after"])
        with suppress(SessionErased):
            for each in ops.pages(partial(repository.feedback, session_id), onward):
                yield from each["feedback"]


def _by_id(repository: ConversationRepository, session_id: str) -> Iterator[ops.Interaction]:
    query = ops.TranscriptOptions(limit=INTERACTIONS_AT_ONCE, by="id")
    with suppress(SessionErased):
        for page in ops.pages(partial(repository.transcript, session_id), query):
            yield from page["interactions"]


def _sort_key(row: ops.Interaction) -> str:
    """Return a text that sorts as the store sorts the rows of a transcript."""
    # all times are in UTC; where fractions differ in length, the shorter one continues with the lower character
    turn = NO_TURN if row["turn"] is None else row["turn"]
    return f"{turn:019d} {row['started_at'] or row['created_at']} {row['interaction_id']}"
