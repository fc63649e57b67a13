"""Exports the log session by session, with at most a page of interactions of each in memory.

Sessions are read in the order of their ids, which never change, so each session that existed when the export began is
exported exactly once, whatever is written meanwhile. The same holds for its interactions: a short transcript is read at
one moment, a long one in the order of its ids. A session that is erased meanwhile is left out.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from typing import NamedTuple, cast

from pydantic_core import to_json

from conversation.archive.disk_index import DiskIndex
from conversation.archive.entries import Location
from logging_store import operations as ops
from logging_store.errors import SessionErased, SessionNotFound
from logging_store.log_reader import NamedFeedbackQuery, NamedSessionFilters, NamedSessionsByIdQuery
from logging_store.records.json_values import NO_TURN
from logging_store.repository import ConversationRepository

SESSIONS_AT_ONCE = 200
_PREFETCH = 8  # sessions whose first pages are read ahead, since most of the time is latency
INTERACTIONS_AT_ONCE = 100  # rows of a page; up to `_PREFETCH` pages are in memory
_REVISIONS: ops.RevisionsOptions = {"limit": INTERACTIONS_AT_ONCE, "whole": True}


RevisionsOf = Callable[[str], Sequence[ops.Revision]]


def _no_revisions(_: str) -> Sequence[ops.Revision]:
    return ()


class ExportItem(NamedTuple):
    """A session with its children; consume them before taking the next item. `interactions`: in transcript order.

    `revisions`: returns those of an interaction, oldest first.

    `folder` comes with the first of its sessions; a folder without sessions is an item of its own.
    """

    folder: ops.Folder | None
    session: ops.Session | None = None
    participants: Sequence[ops.Participant] = ()
    interactions: Iterator[ops.Interaction] = iter(())
    feedback: Iterator[ops.Feedback] = iter(())
    revisions: RevisionsOf = _no_revisions


class _Prefetched(NamedTuple):
    """What is read ahead of a session: participants, and the first pages of its transcript, feedback and revisions."""

    participants: list[ops.Participant]
    page: ops.TranscriptPage[ops.SessionRef]
    feedback: ops.FeedbackPage[ops.SessionRef]
    revisions: ops.RevisionsPage[ops.SessionRef]


def export_sessions(
    repository: ConversationRepository,
    filters: NamedSessionFilters,
    only: str | None = None,
    *,
    with_context: bool = False,
) -> Iterator[ExportItem]:
    """Yield the sessions that match the filters, or `only` one, and without filters all folders as well.

    `with_context`: with what was sent before each prompt; of a client that sends its history with every call, that is
    the history as often as it was sent.
    Raises `StoreUnavailable`; for `only`, also `SessionNotFound` or `SessionErased`.
    """
    options = ops.TranscriptOptions(limit=INTERACTIONS_AT_ONCE, context=with_context)
    query = cast("NamedSessionsByIdQuery", {**filters, "limit": SESSIONS_AT_ONCE})
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
            queue.append((session, threads.submit(_prefetch, repository, session["session_id"], options)))
            if len(queue) == _PREFETCH:
                yield from _exported(repository, *queue.popleft(), exported_folders, options)
        while queue:
            yield from _exported(repository, *queue.popleft(), exported_folders, options)
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
    options: ops.TranscriptOptions,
) -> Iterator[ExportItem]:
    if (prefetched := awaited.result()) is None:
        return
    folder_id = session["folder_id"]
    folder = None
    if folder_id is not None and exported_folders.claim(folder_id, session["session_id"]):
        folder = repository.folder(folder_id, {"limit": 1})["folder"]
    id_ = session["session_id"]
    turns = _interactions(repository, id_, prefetched.page, options)
    said = _feedback(repository, id_, prefetched.feedback)
    revised = _revisions_of(repository, id_, prefetched.revisions)
    yield ExportItem(folder, session, prefetched.participants, turns, said, revised)


def _prefetch(
    repository: ConversationRepository, session_id: str, options: ops.TranscriptOptions
) -> _Prefetched | None:
    try:
        return _Prefetched(
            repository.participants(session_id)["participants"],
            repository.transcript(session_id, options),
            repository.feedback(session_id, {"limit": INTERACTIONS_AT_ONCE}),
            repository.session_revisions(session_id, _REVISIONS),
        )
    except (SessionErased, SessionNotFound):
        return None


def transcript(repository: ConversationRepository, session_id: str) -> Iterator[ops.Interaction]:
    """Yield a session's interactions in transcript order."""
    options = ops.TranscriptOptions(limit=INTERACTIONS_AT_ONCE)
    return _interactions(repository, session_id, repository.transcript(session_id, options), options)


def feedback(repository: ConversationRepository, session_id: str) -> Iterator[ops.Feedback]:
    """Yield the feedback on a session's interactions."""
    return _feedback(repository, session_id, repository.feedback(session_id, {"limit": INTERACTIONS_AT_ONCE}))


def revisions(repository: ConversationRepository, session_id: str) -> RevisionsOf:
    """Return a function that returns the revisions of one of a session's interactions, oldest first."""
    return _revisions_of(repository, session_id, repository.session_revisions(session_id, _REVISIONS))


def _revisions_of(
    repository: ConversationRepository, session_id: str, first: ops.RevisionsPage[ops.SessionRef]
) -> RevisionsOf:
    """`first`: the first page of those of the whole session, which usually is all of them."""

    def of_interaction(interaction_id: str) -> Sequence[ops.Revision]:
        found = first["revisions"]
        if first["after"] is not None:
            query = ops.RevisionsOptions(**_REVISIONS, interaction_ids=[interaction_id])
            with suppress(SessionErased):
                pages = ops.pages(partial(repository.session_revisions, session_id), query)
                found = [each for page in pages for each in page["revisions"]]
        own = [each for each in found if each["interaction_id"] == interaction_id]
        # ids of revisions are another store's own, so what was said and received at once is sorted by what it says
        return sorted(own, key=lambda each: (each["said_at"], each["created_at"], to_json(each["facts"])))

    return of_interaction


def _interactions(
    repository: ConversationRepository,
    session_id: str,
    first: ops.TranscriptPage[ops.SessionRef],
    options: ops.TranscriptOptions,
) -> Iterator[ops.Interaction]:
    if first["after"] is None:
        yield from first["interactions"]
        return
    # read by id: an interaction that gains a turn number meanwhile could appear twice or never in transcript order
    with closing(DiskIndex()) as disk:
        for n, row in enumerate(_by_id(repository, session_id, options)):
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


def _by_id(
    repository: ConversationRepository, session_id: str, options: ops.TranscriptOptions
) -> Iterator[ops.Interaction]:
    query: ops.TranscriptOptions = {**options, "by": "id"}
    with suppress(SessionErased):
        for page in ops.pages(partial(repository.transcript, session_id), query):
            yield from page["interactions"]


def _sort_key(row: ops.Interaction) -> str:
    """Return a text that sorts as the store sorts the rows of a transcript."""
    # all times are in UTC; where fractions differ in length, the shorter one continues with the lower character
    turn = NO_TURN if row["turn"] is None else row["turn"]
    return f"{turn:019d} {ops.said_at(row)} {row['created_at']} {row['interaction_id']}"
