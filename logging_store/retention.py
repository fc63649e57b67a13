"""What is older than its project keeps it: found and erased in steps, each a short transaction of its own.

A session is idle since the last thing arrived in it, by the clock of the service that received it. One of which
something waits in this machine's spool isn't idle, nor is any other of the same folder: what waits may know it by its
number only. Cut anywhere, the next run goes on: what went isn't found again.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self

from logging_store.errors import StoreBusy
from logging_store.functions import FunctionStore

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
        request = {} if only is None else {"project": only}
        found = self._database.perform("projects", request)["projects"]
        return [Project(row["project"], row["keep_days"], datetime.fromisoformat(row["now"])) for row in found]

    def keep(self, project: str, days: int | None) -> None:
        """Say how long a project is kept; None: as the service's own setting says."""
        self._database.perform("set_project", {"project": project, "keep_days": days})

    def expire(self, project: Project, days: int, *, dry_run: bool) -> Iterator[Expired]:
        """Erase what is older; yield after each step what it took away, or would."""
        request = {"project": project.name, "before": (project.now - timedelta(days=days)).isoformat()}
        for page in self._pages("expirable", request):
            if dry_run:
                yield Expired(len(page["session_ids"]), page["interactions"])
            elif page["session_ids"]:
                yield from self._erase(request, page["session_ids"])
        for page in self._pages("expire_folders", {**request, "dry_run": dry_run}):
            yield Expired(folders=page["folders"])

    def _erase(self, request: dict[str, Any], idle: list[str]) -> Iterator[Expired]:
        held: set[str] = set()
        left = True
        while left:
            query = {**request, "session_ids": [each for each in idle if each not in held], "most": _ERASED_AT_ONCE}
            step = self._perform("expire", query)
            held.update(step["held"])
            left = step["left"]
            yield Expired(len(step["session_ids"]), step["interactions"])
        # a writer lets go at once, and its session isn't idle any more; who doesn't keeps that one only
        for session_id in sorted(held):
            yield from self._erase_patiently(request, session_id)

    def _erase_patiently(self, request: dict[str, Any], session_id: str) -> Iterator[Expired]:
        query = {**request, "session_ids": [session_id], "most": _ERASED_AT_ONCE, "wait": True}
        left = True
        while left:
            try:
                step = self._perform("expire", query)
            except StoreBusy:
                yield Expired(held_up=1)
                return
            left = step["left"]
            yield Expired(len(step["session_ids"]), step["interactions"])

    def _pages(self, function: str, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        query: dict[str, Any] = {**request, "limit": _LOOKED_AT_ONCE}
        while True:
            page = self._perform(function, query)
            yield page
            if page["after"] is None:
                return
            query["after"] = page["after"]

    def _perform(self, function: str, query: dict[str, Any]) -> Any:
        # looked at anew each time: what has come to wait meanwhile is in use
        return self._database.perform(function, {**query, "except": sorted(self._waiting(query["project"]))})
