"""Turns what callers state into batches, and batches' receipts into answers.

A child brings its parent along: whatever is logged names its session, and the session is part of the same batch. One
record is a batch of one. A batch that the store refuses for the data of some record is halved until that record
stands alone, so that it never harms the others (see `weighing`).
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, Self

from logging_store import identity, reports, weighing
from logging_store.addressing import Addressed, Addresser, session_identity
from logging_store.batches import Batch, OnConflict, Receipt
from logging_store.errors import FolderNotFound, Invalid, NotYours, SessionErased, SessionNotFound
from logging_store.identity import Identity
from logging_store.ledger import Ledger
from logging_store.ownership import Ownership, claim
from logging_store.records import Attendee, Folder, Interaction, Participant, Record, Session, SessionChanges
from logging_store.redaction import Redaction
from logging_store.store import Store
from logging_store.values import restore_numbers


class Kept(NamedTuple):
    """What became of a record, and who it is. `of_session` and `folder` are its own, or its parent's."""

    receipt: Receipt
    of_session: Identity | None = None
    interaction: Identity | None = None
    folder: Identity | None = None

    @property
    def session(self) -> Identity:
        assert self.of_session is not None  # noqa: S101 - only a folder's own record has none
        return self.of_session


class ConversationRepository:
    """The log of one project. `clock` tells when a record was received, `ledger` counts what became of it.

    `ownership`: what somebody reaches of it who only reaches sessions of their own. `redaction` goes through all texts.
    """

    def __init__(
        self,
        store: Store,
        project: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        ledger: Ledger | None = None,
        *,
        ownership: Ownership | None = None,
        redaction: Redaction | None = None,
    ) -> None:
        self.store = store
        self.project = project
        self.ledger = ledger or Ledger(redacted=redaction.names if redaction else ())
        self.redaction = redaction
        self._clock = clock
        self._ownership = ownership

    def seen_by(self, project: str, ownership: Ownership | None) -> Self:
        """Return the log of a project as one caller reaches it: all of it, or what is their own."""
        if project == self.project and ownership is self._ownership:
            return self
        return type(self)(self.store, project, self._clock, self.ledger, ownership=ownership, redaction=self.redaction)

    def keep(
        self,
        records: Sequence[Record],
        *,
        next_number: bool = False,
        return_parents: bool = False,
        on_conflict: OnConflict = "keep",
        distinct_keys: bool = False,
    ) -> list[Kept]:
        """Store records of any kind, each with its parents, all in one transaction; answer in the same order.

        `next_number`: sessions that are in a folder and state no number get the next free one.
        `return_parents`: the receipts of folders and sessions carry these as they are afterwards.
        `on_conflict`: what becomes of stored interactions that these say more, or something else, about.
        `distinct_keys`: interactions that state one key of several parts are told so: see `repeats`.
        """
        addresser = Addresser(self.project, self._clock(), self._ownership.user_id if self._ownership else None)
        addressed = addresser.address(records)
        weighing.decide_conflicts(addressed, on_conflict)
        if next_number:
            for each in addressed:
                if each.kind == "sessions" and each.folder and "session_number" not in each.row:
                    each.row["numbering"] = "next"

        batch_of = partial(self._batch, addresser, return_parents=return_parents)
        if self._ownership is not None:
            batch_of(addressed)  # before anything is written: who can't show what they claim is told so
        with self.ledger.receiving(len(addressed)) as receipts:
            refused = self._redact(addressed)
            receipts.extend(weighing.weigh(addressed, refused, batch_of, self.store.write, distinct_keys=distinct_keys))
        return [_kept(each, receipt) for each, receipt in zip(addressed, receipts, strict=True)]

    def ensure_session(self, session: Session) -> Kept:
        """Create a session unless it is there; fill in what it lacks. The receipt carries the session."""
        return self.open_session(session)[0]

    def open_session(
        self, session: Session, attendees: Sequence[Attendee] = (), *, next_number: bool = False
    ) -> list[Kept]:
        """Ensure a session with its participants; return what became of it, then of each of them.

        `next_number`: in a folder, without a number of its own, it gets the next free one.
        """
        name = session.session_id
        if attendees and name is None:
            name = session_identity(self.project, session).id
            if session.session_number is None:
                session = session.model_copy(update={"session_id": name})
        participants = [Participant(session_id=name, **attendee.model_dump()) for attendee in attendees if name]
        return self.keep([session, *participants], next_number=next_number, return_parents=True)

    def ensure_folder(self, folder: Folder) -> Kept:
        """Create a folder, with the sessions of its plan, unless it is there. The receipt carries the folder."""
        (kept,) = self.keep([folder], return_parents=True)
        return kept

    def log(self, interactions: Sequence[Interaction]) -> list[Kept]:
        """Store interactions with their sessions, all in one transaction; answer in the same order."""
        return self.keep(interactions)

    def session(self, name: str) -> dict[str, Any]:
        """Return a session. Raises `SessionNotFound` or `SessionErased`."""
        who = identity.session(self.project, name)
        found = self.store.session(self.project, who.id)
        if found and self._ownership is not None and found["owner"] != self._ownership.owner_of(who.id):
            raise SessionNotFound  # nobody learns that somebody else's is there
        return restore_numbers(_present(found))

    def sessions(self, query: dict[str, Any]) -> dict[str, Any]:
        """Return a page of sessions, newest first: see `Store.sessions`. `folder` names a folder."""
        return restore_numbers(self.store.sessions(self.project, self._reachable(query)))

    def count_sessions(self, query: dict[str, Any]) -> dict[str, Any]:
        """Count the sessions that a query of `sessions` finds: see `Store.count_sessions`."""
        return self.store.count_sessions(self.project, self._reachable(query))

    def recent(self, query: dict[str, Any]) -> dict[str, Any]:
        """Return a page of what arrived last: see `Store.recent`. Raises `NotYours` for who reaches only their own."""
        if self._ownership is not None:
            raise NotYours("Only who may read everything sees what arrives")
        return restore_numbers(self.store.recent(self.project, query))

    def search(self, query: dict[str, Any]) -> dict[str, Any]:
        """Return a page of interactions that say something: see `Store.search`. `session`: its id, or its key."""
        return self.store.search(self.project, self._reachable(query))

    def transcript(self, name: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return a page of a session's interactions. Raises `SessionNotFound` or `SessionErased`."""
        who = self._reached(name)
        try:
            page = self.store.transcript(self.project, who.id, query)
        except Invalid:
            # a thousand turns of megabytes are more than PostgreSQL builds into one answer: a page may be shorter
            if query["limit"] == 1:
                raise
            return self.transcript(name, {**query, "limit": query["limit"] // 2})
        _present(page["session"])
        # not in `after`, which is the store's own: rounded, its numbers would name another place
        return {**page, "interactions": restore_numbers(page["interactions"])}

    def outline(self, name: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return which page of a transcript is wanted, and what all of it comes to: see `Store.outline`."""
        outline = self.store.outline(self.project, self._reached(name).id, query)
        return {**outline, "models": restore_numbers(outline["models"])}

    def gaps(self, name: str, ranges: int) -> dict[str, Any]:
        """Return what a session's turn counter lacks: see `Store.gaps`. Raises `SessionNotFound` or `SessionErased`."""
        who = self._reached(name)
        found = self.store.gaps(self.project, who.id, {"ranges": ranges})["sessions"]
        return _present(found[0] if found else None)

    def sessions_with_gaps(self, query: dict[str, Any]) -> dict[str, Any]:
        """Return a page of the sessions whose turn counters lack something: see `Store.gaps`."""
        return self.store.gaps(self.project, None, query)

    def participants(self, name: str) -> dict[str, Any]:
        """Return who takes part in a session: see `Store.participants`. Raises `SessionNotFound` or `SessionErased`."""
        who = self._reached(name)
        found = self.store.participants(self.project, who.id)
        _present(found["session"])
        return found

    def feedback(self, name: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return a page of what was said of a session's interactions. Raises `SessionNotFound` or `SessionErased`.

        `query`: limit, and any of interaction (only of that one), interaction_ids, after: see `Store.feedback`.
        """
        who = self._reached(name)
        query = dict(query)
        if (interaction := query.pop("interaction", None)) is not None:
            query["interaction_ids"] = [identity.interaction(self.project, who.id, interaction).id]
        found = self.store.feedback(self.project, who.id, query)
        _present(found["session"])
        return found

    def interaction_id(self, session: str, name: str) -> str:
        """Return the id of what a session's interaction is called."""
        return identity.interaction(self.project, identity.session(self.project, session).id, name).id

    def feedback_by(self, author: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return a page of what somebody said in sessions that are not their own: see `Store.feedback`."""
        return self.store.feedback(self.project, None, {**query, "author": author})

    def folder(self, name: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return a folder and a page of its sessions: see `Store.folder`. Raises `FolderNotFound`."""
        who = identity.folder(self.project, name)
        found = self.store.folder(self.project, who.id, query)
        if found["folder"] is None:
            raise FolderNotFound
        return restore_numbers(found)

    def folders(self, query: dict[str, Any]) -> dict[str, Any]:
        """Return a page of folders: see `Store.folders`."""
        return restore_numbers(self.store.folders(self.project, query))

    def explain(
        self, records: Sequence[Record], *, on_conflict: OnConflict = "keep", distinct_keys: bool = False
    ) -> list[Kept]:
        """Say what `keep` would answer now, and write nothing."""
        addresser = Addresser(self.project, self._clock())
        addressed = addresser.address(records)
        weighing.decide_conflicts(addressed, on_conflict)
        refused = self.redaction.rows([each.row for each in addressed]).refused if self.redaction else {}
        told = weighing.weigh(
            addressed, refused, partial(self._batch, addresser), self.store.explain, distinct_keys=distinct_keys
        )
        return [_kept(each, receipt) for each, receipt in zip(addressed, told, strict=True)]

    def edit(self, name: str, changes: SessionChanges) -> dict[str, Any]:
        """Replace what people edit. Raises `SessionNotFound` or `SessionErased`."""
        who = identity.session(self.project, name)
        stated = changes.model_dump(mode="json", exclude_unset=True)
        if self.redaction:
            redacted = self.redaction.edited(stated)
            self.ledger.redacted(redacted.replaced, redacted.failed)
        return restore_numbers(_present(self.store.edit(self.project, who.id, stated)))

    def overview(self, query: dict[str, Any]) -> dict[str, Any]:
        """Return what went on in a span of time: see `Store.overview`."""
        return self.store.overview(self.project, query)

    def participations(self, user_id: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return a page of others' sessions that a user takes part in: see `Store.participations`."""
        return restore_numbers(self.store.participations(self.project, user_id, query))

    def erase(self, name: str, *, dry_run: bool = False) -> dict[str, Any]:
        """Delete a session's content and leave a tombstone; return a signed report. Raises `SessionNotFound`."""
        key = self.store.report_key(self.project)  # first: a report that can't be signed would be lost
        report = self.store.erase(
            self.project, identity.session(self.project, name).id, {"dry_run": True} if dry_run else None
        )
        if report is None:
            raise SessionNotFound
        return reports.signed(report | {"project": self.project, "dry_run": dry_run}, key)

    def erase_user(self, user_id: str, *, dry_run: bool = False) -> dict[str, Any]:
        """Erase everything about a user; return a signed report. The same call goes on with one that was cut."""
        key = self.store.report_key(self.project)
        report = self.store.erase_user(self.project, user_id, {"dry_run": True} if dry_run else {"begin": True})
        while report.get("after") or report["left"]:
            query = {"dry_run": True, "after": report["after"]} if dry_run else {}
            step = self.store.erase_user(self.project, user_id, query)
            # a dry run counts page by page; what an erasure has taken away, the store sums up
            summed = [name for name, value in step.items() if type(value) is int] if dry_run else reports.HERE
            report = step | {name: report[name] + step[name] for name in summed}
        return reports.signed(report | {"project": self.project, "user_id": user_id, "dry_run": dry_run}, key)

    def _reachable(self, query: dict[str, Any]) -> dict[str, Any]:
        """Return a query of a list as the store takes it, for what this caller may read: its names become ids.

        Raises `NotYours` for who has no list.
        """
        query = {**query}
        if folder := query.pop("folder", None):
            query["folder_id"] = identity.folder(self.project, folder).id
        if session := query.pop("session", None):
            query["session_id"] = identity.session(self.project, session).id
        if self._ownership is not None:
            if self._ownership.user_id is None:
                raise NotYours("Only who signed in has a list of sessions")
            query |= {"user_id": self._ownership.user_id, "unclaimed": True}
        return query

    def _batch(self, addresser: Addresser, addressed: Sequence[Addressed], *, return_parents: bool = False) -> Batch:
        batch = addresser.batch(addressed, return_parents=return_parents)
        if self._ownership is not None:
            claim(batch, self._ownership)
        return batch

    def _reached(self, name: str) -> Identity:
        """Return the identity of a session, which somebody who only reaches their own may read."""
        if self._ownership is not None:
            self.session(name)
        return identity.session(self.project, name)

    def _redact(self, addressed: Sequence[Addressed]) -> dict[int, Receipt]:
        """Redact rows in their places; return the receipts of those that can't be, by their places."""
        if self.redaction is None:
            return {}
        redacted = self.redaction.rows([each.row for each in addressed])
        self.ledger.redacted(redacted.replaced, redacted.failed)
        return redacted.refused


def _kept(each: Addressed, receipt: Receipt) -> Kept:
    session = each.session
    if receipt.session is not None:
        # named by its number, it may be another than the one that derives from the number
        session = Identity(receipt.session["session_id"], receipt.session["key"])
        receipt = receipt.model_copy(update={"session": restore_numbers(receipt.session)})
    if receipt.folder is not None:
        receipt = receipt.model_copy(update={"folder": restore_numbers(receipt.folder)})
    return Kept(receipt, session, each.interaction, each.folder)


def _present(session: dict[str, Any] | None) -> dict[str, Any]:
    if session is None:
        raise SessionNotFound
    if session["erased_at"] is not None:
        raise SessionErased(session["session_id"], session["erased_at"])
    return session
