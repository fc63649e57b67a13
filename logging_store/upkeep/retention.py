"""Retention: erases sessions that are idle for longer than their project keeps them, in short transactions.

Their texts may expire earlier: then numbers, times and statuses stay. Both count idle days in the same way.

A session is idle since the service last received something for it, by the service's clock. A session with spooled
records isn't idle, nor is any other of its folder: a spooled record may name its session by the number only. An
interrupted run is resumed by the next one.

A clock that jumps ahead by years makes everything look idle. So a run whose clock is far from that of the last run, or
from this machine's, is refused until a person confirms it.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple, Self, cast

from logging_store import operations as ops
from logging_store.errors import StoreBusy
from logging_store.postgres.function_store import FunctionStore

_PAGE = 500  # sessions
_READS = 10_000  # records of reads
_ERASE_BATCH = 2_000  # interactions: writers of their sessions wait meanwhile
_LONGEST_PAUSE = timedelta(days=45)  # between two runs; a monthly run isn't suspicious
_CLOCK_TOLERANCE = timedelta(days=1)


class Project(NamedTuple):
    """A project, and for how many idle days it keeps a session and its texts.

    `expired_at`: when the last run was, by the database's clock. `now`: that clock.
    """

    name: str
    keep_days: int | None
    keep_text_days: int | None
    expired_at: datetime | None
    now: datetime

    def doubt(self, ours: datetime) -> str | None:
        """Return why the database's clock may be wrong; None if nothing says so. `ours`: this machine's clock."""
        if abs(self.now - ours) > _CLOCK_TOLERANCE:
            return f"the database's clock says {self.now:%Y-%m-%d}, this machine's {ours:%Y-%m-%d}"
        if self.expired_at and self.now - self.expired_at > _LONGEST_PAUSE:
            pause = (self.now - self.expired_at).days
            return f"by the clock the last run was {pause:,} days ago, on {self.expired_at:%Y-%m-%d}"
        return None


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
        return [
            Project(
                row["project"],
                row["keep_days"],
                row["keep_text_days"],
                datetime.fromisoformat(row["expired_at"]) if row["expired_at"] else None,
                datetime.fromisoformat(row["now"]),
            )
            for row in found
        ]

    def set_project(self, project: str, days: ops.SetProjectQuery) -> None:
        """Set for how many days a project's sessions and their texts are kept."""
        self._database.ask(ops.SET_PROJECT, project, days)

    def expire(self, project: Project, days: int, *, dry_run: bool) -> Iterator[Expired]:
        """Erase what is idle for more than `days`; yield the counts of each step."""
        before = _before(project, days)
        idle: ops.ExpirableQuery = {"before": before, "limit": _PAGE}
        for page in ops.pages(partial(self._ask, ops.EXPIRABLE, project.name), idle):
            if dry_run:
                yield Expired(len(page["session_ids"]), page["interactions"])
            elif page["session_ids"]:
                yield from self._run(ops.EXPIRE, project.name, before, page["session_ids"])
        old: ops.ExpireFoldersQuery = {"before": before, "limit": _PAGE, "dry_run": dry_run}
        for folders in ops.pages(partial(self._ask, ops.EXPIRE_FOLDERS, project.name), old):
            yield Expired(folders=folders["folders"])

    def expire_texts(
        self, project: Project, days: int, *, erased_after: int | None, dry_run: bool
    ) -> Iterator[Expired]:
        """Remove the texts of sessions idle for more than `days`; yield the counts of each step.

        Sessions idle for `erased_after` days are left out: they are erased as a whole.
        """
        before = _before(project, days)
        idle: ops.ExpirableTextsQuery = {
            "before": before,
            "limit": _PAGE,
            "erased_before": None if erased_after is None else _before(project, erased_after),
        }
        for page in ops.pages(partial(self._ask, ops.EXPIRABLE_TEXTS, project.name), idle):
            if dry_run:
                yield Expired(len(page["session_ids"]), page["interactions"])
            elif page["session_ids"]:
                yield from self._run(ops.EXPIRE_TEXTS, project.name, before, page["session_ids"])

    def expire_reads(self, project: Project, days: int, *, dry_run: bool) -> int:
        """Delete records of who read what that are older than `days`; return how many there were."""
        query: ops.ExpireReadsQuery = {
            "before": _before(project, days),
            "limit": _READS,
            "dry_run": dry_run,
        }
        total, left = 0, True
        while left:
            step = self._database.ask(ops.EXPIRE_READS, project.name, query)
            total, left = total + step["reads"], step["left"]
        return total

    def _run(
        self, operation: ops.Operation[ops.ExpireQuery, ops.Expired], project: str, before: str, idle: list[str]
    ) -> Iterator[Expired]:
        locked: set[str] = set()
        left = True
        while left:
            unlocked = [each for each in idle if each not in locked]
            query: ops.ExpireQuery = {"before": before, "session_ids": unlocked, "most": _ERASE_BATCH}
            step = self._ask(operation, project, query)
            locked.update(step["locked"])
            left = step["left"]
            yield Expired(len(step["session_ids"]), step["interactions"])
        # a writer releases its lock soon, and its session isn't idle then; a longer lock only keeps its own session
        for session_id in sorted(locked):
            yield from self._run_waiting(operation, project, before, session_id)

    def _run_waiting(
        self, operation: ops.Operation[ops.ExpireQuery, ops.Expired], project: str, before: str, session_id: str
    ) -> Iterator[Expired]:
        query: ops.ExpireQuery = {
            "before": before,
            "session_ids": [session_id],
            "most": _ERASE_BATCH,
            "wait": True,
        }
        left = True
        while left:
            try:
                step = self._ask(operation, project, query)
            except StoreBusy:
                yield Expired(locked=1)
                return
            left = step["left"]
            yield Expired(len(step["session_ids"]), step["interactions"])

    def _ask(self, operation: ops.Operation[ops.Q, ops.A], project: str, query: ops.Q) -> ops.A:
        # looked up each time: sessions with new spooled records are in use
        in_use = {"except": sorted(self._spooled(project))}
        return self._database.ask(operation, project, cast("ops.Q", {**query, **in_use}))


def _before(project: Project, days: int) -> str:
    return (project.now - timedelta(days=days)).isoformat()
