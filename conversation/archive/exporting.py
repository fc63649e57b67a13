"""Gives out the log, session by session with their interactions, holding a page of each at most.

Sessions are walked in the order of their ids, which never change, so one that was there when the export began is met
exactly once whatever is written meanwhile. So are its interactions: a short transcript is read at one moment, a long
one in the order of their ids. A session that is erased meanwhile is left out.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from typing import NamedTuple, cast

from conversation.archive.disk_index import OnDisk
from conversation.archive.entries import Place
from logging_store import operations as ops
from logging_store.errors import SessionErased, SessionNotFound
from logging_store.log_reader import NamedFeedbackQuery
from logging_store.records.json_values import NO_TURN
from logging_store.repository import ConversationRepository

SESSIONS_AT_ONCE = 200
_AHEAD = 8  # sessions whose first page is asked for while another is written: the time goes into waiting
INTERACTIONS_AT_ONCE = 100  # rows: eight times as many are in memory


class Exported(NamedTuple):
    """A session with what is below it, to be read before the next one is taken. `interactions`: in their order.

    `folder` is given with the first of its sessions; a folder that has none stands alone.
    """

    folder: ops.Folder | None
    session: ops.Session | None = None
    participants: Sequence[ops.Participant] = ()
    interactions: Iterator[ops.Interaction] = iter(())
    feedback: Iterator[ops.Feedback] = iter(())


class _Begun(NamedTuple):
    """What is asked for ahead: who takes part, and the first pages of the transcript and of what was said of it."""

    participants: list[ops.Participant]
    page: ops.TranscriptPage[ops.SessionRef]
    feedback: ops.FeedbackPage[ops.SessionRef]


def everything(
    repository: ConversationRepository, filters: ops.IdFilters, only: str | None = None
) -> Iterator[Exported]:
    """Yield the sessions that the filters let through, or `only` one. Raises `StoreUnavailable`.

    Raises `SessionNotFound` or `SessionErased` for the only one.
    """
    query = cast("ops.SessionsByIdQuery", {**filters, "limit": SESSIONS_AT_ONCE})
    sessions = (
        iter([repository.session(only)])
        if only is not None
        else (row for page in ops.pages(repository.sessions_by_id, query) for row in page["sessions"])
    )
    with closing(OnDisk()) as told, ThreadPoolExecutor(_AHEAD, thread_name_prefix="export") as threads:
        begun: deque[tuple[ops.Session, Future[_Begun | None]]] = deque()
        for session in sessions:
            begun.append((session, threads.submit(_begin, repository, session["session_id"])))
            if len(begun) == _AHEAD:
                yield from _exported(repository, *begun.popleft(), told)
        while begun:
            yield from _exported(repository, *begun.popleft(), told)
        if not filters and only is None:
            for page in ops.pages(repository.folders, ops.FoldersQuery(limit=SESSIONS_AT_ONCE)):
                for folder in page["folders"]:
                    if told.claim(folder["folder_id"], ""):
                        yield Exported(folder)


def _exported(
    repository: ConversationRepository, session: ops.Session, awaited: Future[_Begun | None], told: OnDisk
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


def transcript(repository: ConversationRepository, session_id: str) -> Iterator[ops.Interaction]:
    """Yield a session's interactions in their order."""
    return _interactions(repository, session_id, repository.transcript(session_id, {"limit": INTERACTIONS_AT_ONCE}))


def feedback(repository: ConversationRepository, session_id: str) -> Iterator[ops.Feedback]:
    """Yield what was said of a session's interactions."""
    return _feedback(repository, session_id, repository.feedback(session_id, {"limit": INTERACTIONS_AT_ONCE}))


def _interactions(
    repository: ConversationRepository, session_id: str, first: ops.TranscriptPage[ops.SessionRef]
) -> Iterator[ops.Interaction]:
    if first["after"] is None:
        yield from first["interactions"]
        return
    # page by page in the transcript's order, one that gains a turn meanwhile could be met twice or never
    with closing(OnDisk()) as disk:
        for n, row in enumerate(_by_id(repository, session_id)):
            disk.put(session_id, _order(row), Place("index", n), {**row})
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


def _order(row: ops.Interaction) -> str:
    """Spell a row's place in the transcript, so that texts sort as the store sorts rows."""
    # times are all in UTC, and of those that differ in their fraction the shorter one ends in the lower character
    turn = NO_TURN if row["turn"] is None else row["turn"]
    return f"{turn:019d} {row['started_at'] or row['created_at']} {row['interaction_id']}"
