"""Erases records from this machine's disk: from the spool files of all processes, and from the dead letters.

The store comes first: once it has a tombstone, it rejects whatever is on its way, or is spooled a moment later, as
erased. Then each file is changed while its owner uses it, which SQLite's locks allow. Only a file under which the disk
failed is left alone, since it is being copied.
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw

from logging_store import operations as ops
from logging_store.batches import Batch
from logging_store.errors import StoreUnavailable
from logging_store.records import identity
from logging_store.spool import overlay
from logging_store.spool.dead_letters import DeadLetters
from logging_store.spool.directory import SpoolDirectory
from logging_store.spool.files import UNREADABLE, Entry, open_for_reading, open_for_writing, parse_batch, replace_entry
from logging_store.spool.locks import BROKEN
from logging_store.spool.purge_target import PurgeTarget, as_stored

_log = logging.getLogger(__name__)

_PAGE = 100  # entries, so that the owner of the file doesn't wait long


class Purge:
    """Erases in the store, then on this machine's disk."""

    def __init__(self, directory: SpoolDirectory, dead_letters: DeadLetters) -> None:
        self._directory = directory
        self._dead_letters = dead_letters

    def erase(
        self, project: str, query: ops.EraseQuery, erase_stored: Callable[[ops.EraseQuery], ops.Erased | None]
    ) -> ops.Erased | None:
        """Run one step of a session's erasure; the session may only exist here. Return None if it exists nowhere."""
        target = PurgeTarget(project, frozenset({query["session_id"]}))
        local = self._purge(target, dry_run=True)
        exists_here = local["spooled"] + local["dead_letters"] > 0 or any(
            batch.spans for batch in self._directory.batches_for(project, query["session_id"])
        )
        report = erase_stored({"ensure": True, **query} if exists_here else query)
        if report is None:
            return None
        if report["session_number"] is not None and report["folder_id"] is not None:
            numbered = identity.numbered_session(project, report["folder_id"], report["session_number"])
            target = PurgeTarget(project, target.sessions, frozenset({numbered.id}))
        return {**report, **self._purge(target, dry_run=query.get("dry_run", False))}

    def erase_interaction(
        self,
        project: str,
        query: ops.EraseInteractionQuery,
        erase_stored: Callable[[ops.EraseInteractionQuery], ops.InteractionErased],
    ) -> ops.InteractionErased:
        """Erase one interaction, which may only exist here."""
        session_id = query["session_id"]
        target = PurgeTarget(project, turn=(session_id, query["interaction_id"]))
        local = self._purge(target, dry_run=True)
        if local["spooled"] + local["dead_letters"]:
            letters = [batch for batch in self._dead_letters.batches(project) if session_id in batch.parent_ids()]
            batches = [*self._directory.batches_for(project, session_id, strict=True), *letters]
            found = overlay.spooled_session(session_id, batches)
            if found is not None:
                query = {**query, "ensure": {"owner": found["owner"], "created_at": found["created_at"]}}
        report = erase_stored(query)
        return {**report, **self._purge(target, dry_run=query.get("dry_run", False))}

    def erase_user(
        self,
        project: str,
        query: ops.EraseUserQuery,
        erase_stored: Callable[[ops.EraseUserQuery], ops.UserErased],
        guests: Callable[[], list[str]],
    ) -> ops.UserErased:
        """Run one step of a user's erasure. `guests`: returns the guests who were merged into the user."""
        user = query["user_id"]
        if "after" in query:  # a later page of a dry run: the first one has counted the local records
            return erase_stored(query)
        if not query.get("begin") and not query.get("dry_run"):
            report = erase_stored(query)
            return {**report, **self._purge(PurgeTarget(project, frozenset(report["session_ids"])))}
        users = frozenset({user, *guests()})
        if query.get("dry_run"):
            report = erase_stored({**query, "among": self._session_ids(project)})
            sessions = frozenset(report["session_ids"]).union(*self._sessions_of_users(project, users))
            return {**report, **self._purge(PurgeTarget(project, sessions, users=users), dry_run=True)}
        trusted, claimed = self._sessions_of_users(project, users)
        report = erase_stored(
            {**query, "spooled_sessions": sorted(trusted | claimed), "trusted_sessions": sorted(trusted)}
        )
        return {**report, **self._purge(PurgeTarget(project, frozenset(report["session_ids"]), users=users))}

    def _purge(self, target: PurgeTarget, *, dry_run: bool = False) -> ops.LocallyErased:
        spooled = sum(self._purge_file(path, target, dry_run=dry_run) for path in self._directory.files())
        return {
            "spooled": spooled,
            "dead_letters": self._dead_letters.purge(target, dry_run=dry_run),
            "unreadable_files": len(self._directory.find_unreadable()),
        }

    def _purge_file(self, path: Path, target: PurgeTarget, *, dry_run: bool) -> int:
        """Return how many records were removed from a file, or would be."""
        try:
            if dry_run or path.with_suffix(BROKEN).exists():
                with open_for_reading(path) as connection:
                    count = sum(removed for _, _, removed in _matching_entries(connection, target))
                if count and not dry_run:
                    raise StoreUnavailable(f"the disk failed under {path}, which is being copied; erase again")
                return count
            with open_for_writing(path) as connection:
                return sum(
                    _rewrite(connection, entry, remaining, removed)
                    for entry, remaining, removed in _matching_entries(connection, target)
                )
        except (apsw.Error, ValueError) as error:
            if not path.exists():
                return 0  # it was delivered and deleted just now
            if isinstance(error, (*UNREADABLE, ValueError)):
                _log.error("spool: %s can't be read, so nothing was erased from it: %s", path, error)
                return 0  # the report counts it under `unreadable_files`
            raise StoreUnavailable(f"{path} can't be changed now; erase again: {error}") from error

    def _session_ids(self, project: str) -> list[str]:
        """Return the ids of all sessions and folders with records on this disk."""
        letters = (id_ for batch in self._dead_letters.batches(project) for id_ in batch.parent_ids())
        return sorted(self._directory.parent_ids(project).union(letters))

    def _sessions_of_users(self, project: str, users: frozenset[str]) -> tuple[set[str], set[str]]:
        """Return the sessions that records on this disk assign to some users: by the service, and by claimants only.

        A page in a browser may claim a session that isn't its own, so a claim only counts if all records of the session
        on this disk share it. Sessions that the user claims in person are left out: each of their rows names the user.
        """
        letters = list(self._dead_letters.batches(project))
        batches = [
            *(batch for user in users for batch in self._directory.batches_containing(project, as_stored(user))),
            *letters,
        ]
        assigned = {
            (row["id"], row.get("claim")) for batch in batches for row in batch.sessions if row.get("user_id") in users
        }
        trusted = {id_ for id_, claim in assigned if claim is None}
        claimed = {id_ for id_, claim in assigned if claim is not None and not claim.startswith("user:")} - trusted
        return trusted, {id_ for id_ in claimed if self._has_one_claim(project, id_, letters)}

    def _has_one_claim(self, project: str, id_: str, letters: list[Batch]) -> bool:
        batches = [*self._directory.batches_for(project, id_, strict=True), *letters]
        return len(set().union(*(batch.claims_on(id_) for batch in batches))) == 1


def _matching_entries(connection: apsw.Connection, target: PurgeTarget) -> Iterator[tuple[Entry, Batch, int]]:
    """Yield entries with rows of the target, each with its remaining batch and the number of records to remove."""
    condition, values = target.condition()
    after = 0
    while True:
        rows: list[tuple[Any, ...]] = connection.execute(
            f"select seq, spooled_at, batch from entries where project = ? and seq > ? and {condition}"  # noqa: S608
            " order by seq limit ?",
            (target.project, after, *values, _PAGE),
        ).fetchall()
        for seq, spooled_at, data in rows:
            entry = Entry(seq, spooled_at, parse_batch(data))
            remaining = target.remaining(entry.batch)
            if remaining.count < entry.batch.count:
                yield entry, remaining, len(entry.batch.explicit_rows()) - len(remaining.explicit_rows())
            after = seq
        if len(rows) < _PAGE:
            return


def _rewrite(connection: apsw.Connection, entry: Entry, remaining: Batch, removed: int) -> int:
    """Replace an entry by its remaining batch; return how many records that removed."""
    return removed if replace_entry(connection, entry, [remaining] if remaining.count else []) else 0
