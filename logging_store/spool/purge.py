"""What was erased goes from this machine's disk, too: out of the files of all processes, and the dead letters.

The store comes first: once it has a tombstone, whatever is on its way there, or is kept here a moment later, is refused
as erased. A file is changed beside its owner, which SQLite's locks allow; only a file under which the disk failed is
left alone, since it is being copied.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
from pydantic_core import to_json

from logging_store import operations as ops
from logging_store.batches import Batch, Kind, Row
from logging_store.errors import StoreUnavailable
from logging_store.records import identity
from logging_store.spool.dead_letters import DeadLetters
from logging_store.spool.directory import SpoolDirectory
from logging_store.spool.files import Entry, changing, read_batch, reading, replace
from logging_store.spool.locks import BROKEN

_log = logging.getLogger(__name__)

_AT_ONCE = 100  # entries, so that their owner doesn't wait long

#: The field that names a person, by the kind of row.
_WHO: dict[Kind, str] = {
    "folders": "user_id",
    "sessions": "user_id",
    "participants": "participant",
    "interactions": "participant",
    "feedback": "author",
}


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What shall be forgotten of a project: sessions, and what names a user.

    `numbered`: ids that derive from numbers which these sessions have; a row that is named by its number means them.
    """

    project: str
    sessions: frozenset[str] = frozenset()
    numbered: frozenset[str] = frozenset()
    user: str | None = None

    def rest_of(self, batch: Batch) -> Batch:
        """Return what stays of a batch."""
        return batch.only(lambda kind, row: not self._holds(kind, row))

    def _holds(self, kind: Kind, row: Row) -> bool:
        if kind == "folders":
            return self._is_of_the_user(row.get(_WHO[kind]))
        session_id = row["id" if kind == "sessions" else "session_id"]
        return (
            session_id in self.sessions
            or (session_id in self.numbered and row.get("numbering") == "named")
            or self._is_of_the_user(row.get(_WHO[kind]))
            or (self.user is not None and row.get("claim") == f"user:{self.user}")
        )

    def _is_of_the_user(self, name: str | None) -> bool:
        return self.user is not None and name == self.user

    def condition(self) -> tuple[str, tuple[Any, ...]]:
        """Return SQL that finds the entries that may hold some of it, and perhaps others."""
        ids = to_json([*self.sessions, *self.numbered]).decode()
        of_sessions = "seq in (select seq from entry_sessions where session_id in (select value from json_each(?)))"
        if self.user is None:
            return of_sessions, (ids,)
        return f"({of_sessions} or instr(batch, ?))", (ids, _spelled(self.user))


class Forgetting:
    """Erases with the store, and then on this machine's disk."""

    def __init__(self, directory: SpoolDirectory, dead_letters: DeadLetters) -> None:
        self._directory = directory
        self._dead_letters = dead_letters

    def erase(
        self, project: str, query: ops.EraseQuery, ask: Callable[[ops.EraseQuery], ops.Erased | None]
    ) -> ops.Erased | None:
        """Erase a part of a session, which may be here only. `ask`: what erases it in the store."""
        what = Forgotten(project, frozenset({query["session_id"]}))
        here = self._forget(what, dry_run=True)
        is_here = here["spooled"] + here["dead_letters"] > 0
        report = ask({"ensure": True, **query} if is_here else query)
        if report is None:
            return None
        if report["session_number"] is not None and report["folder_id"] is not None:
            named = identity.numbered_session(project, report["folder_id"], report["session_number"])
            what = Forgotten(project, what.sessions, frozenset({named.id}))
        return {**report, **self._forget(what, dry_run=query.get("dry_run", False))}

    def erase_user(
        self, project: str, query: ops.EraseUserQuery, ask: Callable[[ops.EraseUserQuery], ops.UserErased]
    ) -> ops.UserErased:
        """Erase a part of what there is of a user. `ask`: what does so in the store."""
        user = query["user_id"]
        if "after" in query:  # a dry run that goes on: what is here was counted when it began
            return ask(query)
        if query.get("dry_run"):
            report = ask({**query, "among": self._sessions(project)})
            theirs = frozenset(report["session_ids"]).union(*self._sessions_of(project, user))
            return {**report, **self._forget(Forgotten(project, theirs, user=user), dry_run=True)}
        if not query.get("begin"):
            report = ask(query)
            return {**report, **self._forget(Forgotten(project, frozenset(report["session_ids"])))}
        stated, claimed = self._sessions_of(project, user)
        report = ask({**query, "waiting": sorted(stated | claimed), "stated": sorted(stated)})
        return {**report, **self._forget(Forgotten(project, frozenset(report["session_ids"]), user=user))}

    def _forget(self, what: Forgotten, *, dry_run: bool = False) -> ops.DiskIndex:
        """Return how many records went from the spool and from the dead letters, or would."""
        spooled = sum(self._in_file(path, what, dry_run=dry_run) for path in self._directory.files())
        return {
            "spooled": spooled,
            "dead_letters": self._dead_letters.forget(what, dry_run=dry_run),
            "unreadable_files": len(self._directory.find_unreadable()),
        }

    def _in_file(self, path: Path, what: Forgotten, *, dry_run: bool) -> int:
        try:
            if dry_run or path.with_suffix(BROKEN).exists():
                with reading(path) as connection:
                    count = sum(gone for _, _, gone in _holding(connection, what))
                if count and not dry_run:
                    raise StoreUnavailable(f"the disk failed under {path}, which is being copied; erase it again")
                return count
            with changing(path) as connection:
                return sum(_take(connection, entry, rest, gone) for entry, rest, gone in _holding(connection, what))
        except (apsw.Error, ValueError) as error:
            if not path.exists():
                return 0  # delivered and removed just now
            if isinstance(error, apsw.CorruptError | apsw.NotADBError | ValueError):
                _log.error("spool: %s can't be read, so nothing was erased from it: %s", path, error)
                return 0  # `unreadable_files` of the report tell of it
            raise StoreUnavailable(f"{path} can't be changed now, erase it again: {error}") from error

    def _sessions(self, project: str) -> list[str]:
        """Return the ids of all sessions and folders of which something is here."""
        letters = (id_ for batch in self._dead_letters.batches(project) for id_ in batch.parent_ids())
        return sorted(self._directory.sessions(project).union(letters))

    def _sessions_of(self, project: str, user: str) -> tuple[set[str], set[str]]:
        """Return the sessions of which something here says that they are a user's: the service, and who claims them.

        Who claims a session, as a page in a browser does, may claim somebody else's: it counts only where all that is
        here of the session has that claim. What the user claims as such doesn't count: each row tells its claimant.
        """
        letters = list(self._dead_letters.batches(project))
        batches = [*self._directory.batches(project, _spelled(user)), *letters]
        named = {
            (row["id"], row.get("claim")) for batch in batches for row in batch.sessions if row.get("user_id") == user
        }
        stated = {id_ for id_, claim in named if claim is None}
        claimed = {id_ for id_, claim in named if claim is not None and not claim.startswith("user:")} - stated
        return stated, {id_ for id_ in claimed if self._is_of_one_claim(project, id_, letters)}

    def _is_of_one_claim(self, project: str, id_: str, letters: list[Batch]) -> bool:
        batches = [*self._directory.batches_of(project, id_, surely=True), *letters]
        return len(set().union(*(batch.claims_of(id_) for batch in batches))) == 1


def _spelled(user: str) -> bytes:
    """Return a user as a batch spells them: by name, or as who claims a session."""
    return to_json(user)[1:-1]


def _holding(connection: apsw.Connection, what: Forgotten) -> Iterator[tuple[Entry, Batch, int]]:
    """Yield the entries that hold some of it, with what stays of each and how many stated records go."""
    condition, values = what.condition()
    after = 0
    while True:
        rows: list[tuple[Any, ...]] = connection.execute(
            f"select seq, kept_at, batch from entries where project = ? and seq > ? and {condition}"  # noqa: S608
            " order by seq limit ?",
            (what.project, after, *values, _AT_ONCE),
        ).fetchall()
        for seq, kept_at, data in rows:
            entry = Entry(seq, kept_at, read_batch(data))
            rest = what.rest_of(entry.batch)
            if rest.count < entry.batch.count:
                yield entry, rest, len(entry.batch.stated()) - len(rest.stated())
            after = seq
        if len(rows) < _AT_ONCE:
            return


def _take(connection: apsw.Connection, entry: Entry, rest: Batch, gone: int) -> int:
    """Put what stays in an entry's place; return how many records went."""
    return gone if replace(connection, entry, [rest] if rest.count else []) else 0
