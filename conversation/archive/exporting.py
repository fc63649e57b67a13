"""Gives out the log, session by session with their interactions, holding a page of each at most.

Sessions are walked in the order of their ids, which never change, so one that was there when the export began is met
exactly once whatever is written meanwhile. So are its interactions: a short transcript is read at one moment, a long
one in the order of their ids. A session that is erased meanwhile is left out.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, NamedTuple

from conversation.archive.entries import Place
from conversation.archive.on_disk import OnDisk
from conversation.store_commands import every
from logging_store.errors import SessionErased, SessionNotFound
from logging_store.repository import ConversationRepository

SESSIONS_AT_ONCE = 200
_AHEAD = 8  # sessions whose first page is asked for while another is written: the time goes into waiting
INTERACTIONS_AT_ONCE = 100  # rows: eight times as many are in memory
_UNCOUNTED = 2**63 - 1  # the turn at which the store puts interactions without one: after all others

Row = dict[str, Any]


class Exported(NamedTuple):
    """A session with what is below it, to be read before the next one is taken. `interactions`: in their order.

    `folder` is given with the first of its sessions; a folder that has none stands alone.
    """

    folder: Row | None
    session: Row | None = None
    participants: Sequence[Row] = ()
    interactions: Iterator[Row] = iter(())
    feedback: Iterator[Row] = iter(())


class _Begun(NamedTuple):
    """What is asked for ahead: who takes part, and the first pages of the transcript and of what was said of it."""

    participants: list[Row]
    page: Row
    feedback: Row


def everything(repository: ConversationRepository, filters: Row, only: str | None = None) -> Iterator[Exported]:
    """Yield the sessions that the filters let through, or `only` one. Raises `StoreUnavailable`.

    Raises `SessionNotFound` or `SessionErased` for the only one.
    """
    sessions = (
        iter([repository.session(only)])
        if only is not None
        else every("sessions", repository.sessions, {**filters, "limit": SESSIONS_AT_ONCE, "by": "id"})
    )
    with closing(OnDisk()) as told, ThreadPoolExecutor(_AHEAD, thread_name_prefix="export") as threads:
        begun: deque[tuple[Row, Future[_Begun | None]]] = deque()
        for session in sessions:
            begun.append((session, threads.submit(_begin, repository, session["session_id"])))
            if len(begun) == _AHEAD:
                yield from _exported(repository, *begun.popleft(), told)
        while begun:
            yield from _exported(repository, *begun.popleft(), told)
        if not filters and only is None:
            for folder in every("folders", repository.folders, {"limit": SESSIONS_AT_ONCE}):
                if told.claim(folder["folder_id"], ""):
                    yield Exported(folder)


def _exported(
    repository: ConversationRepository, session: Row, awaited: Future[_Begun | None], told: OnDisk
) -> Iterator[Exported]:
    if (begun := awaited.result()) is None:
        return
    folder_id = session["folder_id"]
    folder = None
    if folder_id is not None and told.claim(folder_id, session["session_id"]):
        folder = repository.folder(folder_id, {"limit": 1})["folder"]
    id_ = session["session_id"]
    turns = _interactions(repository, id_, begun.page)
    yield Exported(folder, session, begun.participants, turns, _feedback(repository, id_, begun.feedback))


def _begin(repository: ConversationRepository, session_id: str) -> _Begun | None:
    try:
        return _Begun(
            repository.participants(session_id)["participants"],
            repository.transcript(session_id, {"limit": INTERACTIONS_AT_ONCE}),
            repository.feedback(session_id, {"limit": INTERACTIONS_AT_ONCE}),
        )
    except (SessionErased, SessionNotFound):
        return None


def transcript(repository: ConversationRepository, session_id: str) -> Iterator[Row]:
    """Yield a session's interactions in their order."""
    return _interactions(repository, session_id, repository.transcript(session_id, {"limit": INTERACTIONS_AT_ONCE}))


def feedback(repository: ConversationRepository, session_id: str) -> Iterator[Row]:
    """Yield what was said of a session's interactions."""
    return _feedback(repository, session_id, repository.feedback(session_id, {"limit": INTERACTIONS_AT_ONCE}))


def _interactions(repository: ConversationRepository, session_id: str, first: Row) -> Iterator[Row]:
    if first["after"] is None:
        yield from first["interactions"]
        return
    # page by page in the transcript's order, one that gains a turn meanwhile could be met twice or never
    with closing(OnDisk()) as disk:
        for n, row in enumerate(_by_id(repository, session_id)):
            disk.put(session_id, _order(row), Place("index", n), row)
        for _, rows in disk.groups():
            for _, row in rows:
                yield row


def _feedback(repository: ConversationRepository, session_id: str, page: Row) -> Iterator[Row]:
    while True:
        yield from page["feedback"]
        if page["after"] is None:
            return
        try:
            page = repository.feedback(session_id, {"limit": INTERACTIONS_AT_ONCE, "after": page["after"]})
        except SessionErased:
            return


def _by_id(repository: ConversationRepository, session_id: str) -> Iterator[Row]:
    query: Row = {"limit": INTERACTIONS_AT_ONCE, "by": "id"}
    while True:
        try:
            page = repository.transcript(session_id, query)
        except SessionErased:
            return
        yield from page["interactions"]
        if page["after"] is None:
            return
        query["after"] = page["after"]


def _order(row: Row) -> str:
    """Spell a row's place in the transcript, so that texts sort as the store sorts rows."""
    # times are all in UTC, and of those that differ in their fraction the shorter one ends in the lower character
    turn = _UNCOUNTED if row["turn"] is None else row["turn"]
    return f"{turn:019d} {row['started_at'] or row['created_at']} {row['interaction_id']}"
