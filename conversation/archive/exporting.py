"""Gives out the log, session by session with their interactions, holding a page of each at most.

Sessions are walked in the order of their ids, which never change, so one that was there when the export began is met
exactly once whatever is written meanwhile. So are its interactions: a short transcript is read at one moment, a long
one in the order of their ids. A session that is erased meanwhile is left out.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, NamedTuple

from conversation.archive.entries import Place
from conversation.archive.on_disk import OnDisk
from logging_store.errors import SessionErased, SessionNotFound
from logging_store.repository import ConversationRepository

SESSIONS_AT_ONCE = 200
_AHEAD = 8  # sessions whose first page is asked for while another is written: the time goes into waiting
_INTERACTIONS_AT_ONCE = 100  # rows: eight times as many are in memory
_UNCOUNTED = 2**63 - 1  # the turn at which the store puts interactions without one: after all others

Row = dict[str, Any]
Filters = dict[str, Any]


class Exported(NamedTuple):
    """A session and its interactions, in the transcript's order. To be read before the next one is taken."""

    session: Row
    interactions: Iterator[Row]


def everything(repository: ConversationRepository, filters: Filters, only: str | None = None) -> Iterator[Exported]:
    """Yield the sessions that the filters let through, or `only` one. Raises `StoreUnavailable`."""
    sessions = iter([repository.session(only)]) if only is not None else _sessions(repository, filters)
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="export") as threads:
        begun: deque[tuple[Row, Future[Row | None]]] = deque()
        for session in sessions:
            begun.append((session, threads.submit(_first_page, repository, session["session_id"])))
            if len(begun) == _AHEAD:
                yield from _exported(repository, *begun.popleft())
        while begun:
            yield from _exported(repository, *begun.popleft())


def _exported(repository: ConversationRepository, session: Row, first: Future[Row | None]) -> Iterator[Exported]:
    if (page := first.result()) is not None:
        yield Exported(session, _interactions(repository, session["session_id"], page))


def _sessions(repository: ConversationRepository, filters: Filters) -> Iterator[Row]:
    query = {**filters, "limit": SESSIONS_AT_ONCE, "by": "id"}
    while True:
        page = repository.sessions(query)
        yield from page["sessions"]
        if page["after"] is None:
            return
        query["after"] = page["after"]


def _first_page(repository: ConversationRepository, session_id: str) -> Row | None:
    try:
        return repository.transcript(session_id, {"limit": _INTERACTIONS_AT_ONCE})
    except (SessionErased, SessionNotFound):
        return None


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


def _by_id(repository: ConversationRepository, session_id: str) -> Iterator[Row]:
    query: Row = {"limit": _INTERACTIONS_AT_ONCE, "by": "id"}
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
