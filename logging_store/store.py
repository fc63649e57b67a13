"""The contract between the log and whatever keeps it.

A `Store` that wraps a `Store` is one too, so they stack; all of them pass the same conformance tests. Each method
may raise `StoreUnavailable` (the same call may be made again: every write is idempotent) or `Misconfigured`.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from logging_store.batches import Batch, BatchReceipts


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a store has acknowledged and not delivered yet. `has_room`: whether it would keep more."""

    has_room: bool = False
    records: int = 0
    bytes: int = 0
    oldest_s: float = 0
    unreadable_files: int = 0
    dead_letters: int | None = 0  # None: they can't be read


class Store(Protocol):
    def start(self) -> None:
        """Begin what needs no caller, in the process that serves. A store that was not started works as well."""

    def write(self, batch: Batch) -> BatchReceipts:
        """Store a batch in one transaction; when this returns, what the receipts say is durable.

        Raises `Invalid` or `Conflict` if the data of some record makes the whole batch fail.
        """

    def session(self, project: str, session_id: str) -> dict[str, Any] | None:
        """Return a session with its derived counts, a tombstone (`erased_at` set), or None."""

    def sessions(self, project: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return `{sessions, after}`, newest first.

        `query`: limit, and any of user_id, folder_id, tag, status, implicit, model, has_errors, name, from, to, sort,
        after: see turnlog.sessions. A page may be short; `after` is null on the last one. With `by` "id" in the
        order of their ids, which never change, by user_id, tag, status, from and to only.
        """

    def count_sessions(self, project: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return `{sessions, complete}`: how many a query of `sessions` finds; not `complete`: there may be more."""

    def recent(self, project: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return `{interactions, after}`: what arrived last, first, with the beginnings of its texts.

        `query`: limit, and any of model, has_errors, error, after; and from, to: then it is what began in this time,
        the latest first. A page may be short; `after` is null on the last one.
        """

    def transcript(self, project: str, session_id: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return `{session, interactions, after}` in order, or `by` "id". `query`: limit, and any of after, by."""

    def outline(self, project: str, session_id: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return `{total, index, after, context, models, states}`: which page of a transcript is meant, what all has.

        `query`: limit, and at most one of interaction_id, after and before: see turnlog.outline. `after` is what
        `transcript` takes to read that page. What waits on this machine is not weighed.
        """

    def search(self, project: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return `{hits, after, complete, searched, matched, searched_to}`: see turnlog.search.

        `query`: terms, limit, order (newest, match), and any of words, user_id, unclaimed, session_id, model, from, to,
        after. A call ends in time: `complete` is False if it ended before it had looked at everything for its page.
        """

    def gaps(self, project: str, session_id: str | None, query: dict[str, Any]) -> dict[str, Any]:
        """Return `{sessions, after}`: what the callers' own turn counters lack.

        Of one session, whatever its state (none if it isn't there); or, for None, of the next `limit` sessions those
        that lack a turn or have one twice: a page may be short, `after` is null on the last one. `query`: ranges (the
        most gaps and doubled turns that are listed of a session), and limit and after for None.
        """

    def folder(self, project: str, folder_id: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return `{folder, sessions, after}`: a folder, or None, with a page of its sessions by their numbers.

        `query`: limit, and after.
        """

    def folders(self, project: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return `{folders, after}` in the order of their ids. `query`: limit, and any of user_id, after."""

    def participants(self, project: str, session_id: str) -> dict[str, Any]:
        """Return `{session, participants}`: a session's id, key and erased_at, or None, and who takes part."""

    def feedback(self, project: str, session_id: str | None, query: dict[str, Any]) -> dict[str, Any]:
        """Return `{session, feedback, after}` in the order of the ids, `session` as `participants` does.

        Of one session, `query`: limit, and any of interaction_ids, author, after; or, for None, what an author said in
        sessions that are not their own. `query`: author, limit, and after.
        """

    def explain(self, batch: Batch) -> BatchReceipts:
        """Return what `write` would, and keep nothing. What waits on this machine is not weighed."""

    def edit(self, project: str, session_id: str, changes: dict[str, Any]) -> dict[str, Any] | None:
        """Replace fields that people edit; return what `session` does."""

    def erase(self, project: str, session_id: str, query: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """Delete a session's content, leave a tombstone; return what went, or None if there is no such session.

        `{session_id, erased_at, interactions, participants, feedback, spooled, dead_letters, unreadable_files, proof}`:
        `spooled`, `dead_letters` and `unreadable_files` are of this machine's disk, `proof` is a query that counts what
        is left in the store. `query`: `dry_run` only counts; `ensure` leaves a tombstone also of a session that isn't
        there.
        """

    def erase_user(self, project: str, user_id: str, query: dict[str, Any]) -> dict[str, Any]:
        """Take a part of what there is of a user away; ask again until nothing is `left`.

        Returns `{erased_at, sessions, interactions, participants, feedback, participations, turns, folders, spooled,
        dead_letters, unreadable_files, session_ids, left, proof}`: see turnlog.erase_user. `spooled` and
        `dead_letters` are what this call took. `query`: `begin` with the first call, or `dry_run`, which only counts, a
        page with each call, and answers `after` for the next.
        """

    def participations(self, project: str, user_id: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return `{sessions, after}`: others' sessions that a user takes part in. `query`: limit, and after."""

    def overview(self, project: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return what went on in a span, `{interactions, failures, sessions}`, each of a share of its time.

        `query`: from and to, and how it is looked at: see turnlog.overview.
        """

    def report_key(self, project: str) -> str:
        """Return what the project's reports are signed with; the same on all machines."""

    def forget(self, project: str) -> dict[str, Any]:
        """Delete some thousand rows of a self-test's project for good; return `{sessions, interactions, left}`.

        Ask again until nothing is `left`. Raises `Invalid` for any other project.
        """

    def key(self, digest: str) -> dict[str, Any] | None:
        """Return the key of a SHA-256 (in hex) as the database holds it, whatever its state, or None; note its use."""

    def origins(self) -> list[str]:
        """Return the origins of all web pages that may use some key."""

    def ping(self) -> dict[str, Any]:
        """Ask whether the store may be trusted with an acknowledgement; return its settings.

        Raises `Misconfigured` if its schema is not ours or it doesn't keep what it acknowledges.
        """

    def backlog(self) -> Backlog:
        """Return what waits on this machine. Never raises for a store that is away."""

    def close(self) -> None:
        """Release what the store holds; it may be used again afterwards."""
