"""Retention: erases sessions that are idle for longer than their project keeps them, in short transactions.

A session is idle since the service last received something for it, by the service's clock. A session with spooled
records isn't idle, nor is any other of its folder: a spooled record may name its session by the number only. An
interrupted run is resumed by the next one.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple, Self, cast

from logging_store import operations as ops
from logging_store.errors import StoreBusy
from logging_store.postgres.function_store import FunctionStore

_PAGE = 500  # sessions
_ERASE_BATCH = 2_000  # interactions: writers of their sessions wait meanwhile


class Project(NamedTuple):
    """A project, and for how many idle days it keeps a session. `now`: the database's clock."""

    name: str
    keep_days: int | None
    now: datetime


class Expired(NamedTuple):
    """Counts of what was erased, or would be. `locked`: sessions left to the next run, since they are locked."""

    sessions: int = 0
    interactions: int = 0
    folders: int = 0
    locked: int = 0

    def plus(self, other: Self) -> "Expired":
        return Expired(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class Retention:
    """Expires sessions and folders of a database.

    `spooled`: returns the ids of a project's sessions and folders with spooled records; raises if that is unknown.
    """

    def __init__(self, database: FunctionStore, spooled: Callable[[str], set[str]]) -> None:
        self._database = database
        self._spooled = spooled

    def projects(self, only: str | None = None) -> list[Project]:
        found = self._database.ask(ops.PROJECTS, only, ops.NoQuery())["projects"]
        return [Project(row["project"], row["keep_days"], datetime.fromisoformat(row["now"])) for row in found]

    def set_keep_days(self, project: str, days: int | None) -> None:
        """Set for how many days a project is kept; None for the service's own setting."""
        self._database.ask(ops.SET_PROJECT, project, ops.SetProjectQuery(keep_days=days))

    def expire(self, project: Project, days: int, *, dry_run: bool) -> Iterator[Expired]:
        """Erase what is idle for more than `days`; yield the counts of each step."""
        before = (project.now - timedelta(days=days)).isoformat()
        idle: ops.ExpirableQuery = {"before": before, "limit": _PAGE}
        for page in ops.pages(partial(self._ask, ops.EXPIRABLE, project.name), idle):
            if dry_run:
                yield Expired(len(page["session_ids"]), page["interactions"])
            elif page["session_ids"]:
                yield from self._erase(project.name, before, page["session_ids"])
        old: ops.ExpireFoldersQuery = {"before": before, "limit": _PAGE, "dry_run": dry_run}
        for folders in ops.pages(partial(self._ask, ops.EXPIRE_FOLDERS, project.name), old):
            yield Expired(folders=folders["folders"])

    def _erase(self, project: str, before: str, idle: list[str]) -> Iterator[Expired]:
        locked: set[str] = set()
        left = True
        while left:
            unlocked = [each for each in idle if each not in locked]
            query: ops.ExpireQuery = {"before": before, "session_ids": unlocked, "most": _ERASE_BATCH}
            step = self._ask(ops.EXPIRE, project, query)
            locked.update(step["locked"])
            left = step["left"]
            yield Expired(len(step["session_ids"]), step["interactions"])
        # a writer releases its lock soon, and its session isn't idle then; a longer lock only keeps its own session
        for session_id in sorted(locked):
            yield from self._erase_waiting(project, before, session_id)

    def _erase_waiting(self, project: str, before: str, session_id: str) -> Iterator[Expired]:
        query: ops.ExpireQuery = {
            "before": before,
            "session_ids": [session_id],
            "most": _ERASE_BATCH,
            "wait": True,
        }
        left = True
        while left:
            try:
                step = self._ask(ops.EXPIRE, project, query)
            except StoreBusy:
                yield Expired(locked=1)
                return
            left = step["left"]
            yield Expired(len(step["session_ids"]), step["interactions"])

    def _ask(self, operation: ops.Operation[ops.Q, ops.A], project: str, query: ops.Q) -> ops.A:
        # looked up each time: sessions with new spooled records are in use
        in_use = {"except": sorted(self._spooled(project))}
        return self._database.ask(operation, project, cast("ops.Q", {**query, **in_use}))
