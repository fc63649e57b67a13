"""What is older than its project keeps it: found and erased in steps, each a short transaction of its own.

A session is idle since the last thing arrived in it, by the clock of the service that received it. One of which
something waits in this machine's spool isn't idle, nor is any other of the same folder: what waits may know it by its
number only. Cut anywhere, the next run goes on: what went isn't found again.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple, Self, cast

from logging_store import operations as ops
from logging_store.errors import StoreBusy
from logging_store.postgres.function_store import FunctionStore

_LOOKED_AT_ONCE = 500  # sessions
_ERASED_AT_ONCE = 2_000  # interactions: writers of their sessions wait meanwhile


class Project(NamedTuple):
    """A project, and how many days it keeps what nothing is added to. `now`: the database's clock."""

    name: str
    keep_days: int | None
    now: datetime


class Expired(NamedTuple):
    """What went, or would. `held_up`: sessions that somebody's lock kept, to be had by another run."""

    sessions: int = 0
    interactions: int = 0
    folders: int = 0
    held_up: int = 0

    def plus(self, other: Self) -> "Expired":
        return Expired(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class Retention:
    """What a database keeps, and for how long.

    `waiting`: the sessions and folders of a project of which something waits here; it raises if that can't be known.
    """

    def __init__(self, database: FunctionStore, waiting: Callable[[str], set[str]]) -> None:
        self._database = database
        self._waiting = waiting

    def projects(self, only: str | None = None) -> list[Project]:
        found = self._database.ask(ops.PROJECTS, only, ops.NoQuery())["projects"]
        return [Project(row["project"], row["keep_days"], datetime.fromisoformat(row["now"])) for row in found]

    def set_keep_days(self, project: str, days: int | None) -> None:
        """Say how long a project is kept; None: as the service's own setting says."""
        self._database.ask(ops.SET_PROJECT, project, ops.SetProjectQuery(keep_days=days))

    def expire(self, project: Project, days: int, *, dry_run: bool) -> Iterator[Expired]:
        """Erase what is older; yield after each step what it took away, or would."""
        before = (project.now - timedelta(days=days)).isoformat()
        idle: ops.ExpirableQuery = {"before": before, "limit": _LOOKED_AT_ONCE}
        for page in ops.pages(partial(self._ask, ops.EXPIRABLE, project.name), idle):
            if dry_run:
                yield Expired(len(page["session_ids"]), page["interactions"])
            elif page["session_ids"]:
                yield from self._erase(project.name, before, page["session_ids"])
        old: ops.ExpireFoldersQuery = {"before": before, "limit": _LOOKED_AT_ONCE, "dry_run": dry_run}
        for folders in ops.pages(partial(self._ask, ops.EXPIRE_FOLDERS, project.name), old):
            yield Expired(folders=folders["folders"])

    def _erase(self, project: str, before: str, idle: list[str]) -> Iterator[Expired]:
        held: set[str] = set()
        left = True
        while left:
            free = [each for each in idle if each not in held]
            query: ops.ExpireQuery = {"before": before, "session_ids": free, "most": _ERASED_AT_ONCE}
            step = self._ask(ops.EXPIRE, project, query)
            held.update(step["locked"])
            left = step["left"]
            yield Expired(len(step["session_ids"]), step["interactions"])
        # a writer lets go at once, and its session isn't idle any more; who doesn't keeps that one only
        for session_id in sorted(held):
            yield from self._erase_patiently(project, before, session_id)

    def _erase_patiently(self, project: str, before: str, session_id: str) -> Iterator[Expired]:
        query: ops.ExpireQuery = {
            "before": before,
            "session_ids": [session_id],
            "most": _ERASED_AT_ONCE,
            "wait": True,
        }
        left = True
        while left:
            try:
                step = self._ask(ops.EXPIRE, project, query)
            except StoreBusy:
                yield Expired(held_up=1)
                return
            left = step["left"]
            yield Expired(len(step["session_ids"]), step["interactions"])

    def _ask(self, operation: ops.Operation[ops.Q, ops.A], project: str, query: ops.Q) -> ops.A:
        # looked at anew each time: what has come to wait meanwhile is in use
        waiting = {"except": sorted(self._waiting(project))}
        return self._database.ask(operation, project, cast("ops.Q", {**query, **waiting}))
