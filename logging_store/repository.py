"""Turns what callers state into batches, and batches' receipts into answers.

A child brings its parent along: whatever is logged names its session, and the session is part of the same batch. One
record is a batch of one. What is wrong with one record costs the others nothing: see `write_pipeline`.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple, Self

from logging_store import erasure_reports, write_pipeline
from logging_store import operations as ops
from logging_store.addressing import Addressed, Addresser, session_identity
from logging_store.batches import Batch, OnConflict, Receipt
from logging_store.errors import SessionNotFound
from logging_store.log_reader import LogReader, present
from logging_store.metrics.ledger import Ledger
from logging_store.ownership import Ownership, claim
from logging_store.records import identity
from logging_store.records.identity import Identity
from logging_store.records.models import Attendee, Folder, Interaction, Participant, Record, Session, SessionChanges
from logging_store.redaction import Redaction
from logging_store.store import Store


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


class ConversationRepository(LogReader):
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
        super().__init__(store, project, ownership)
        self.ledger = ledger or Ledger(redacted=redaction.names if redaction else ())
        self.redaction = redaction
        self._clock = clock

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
        `distinct_keys`: interactions that state one key of several parts are told so: see `write_pipeline`.
        """
        now = self._clock()
        author = self._ownership.author if self._ownership else None
        addresser = Addresser(self.project, now, author, on_conflict=on_conflict, next_number=next_number)
        rows = addresser.address(records)
        batch_of = partial(self._batch, addresser, return_parents=return_parents)
        if self._ownership is not None:
            batch_of(rows)  # before anything is written: who can't show what they claim is told so
        with self.ledger.receiving(len(rows)) as receipts:
            refused = self._redact(rows) | write_pipeline.future_times(records, now)
            receipts.extend(self._write(rows, refused, batch_of, distinct_keys=distinct_keys))
        return list(map(_kept, rows, receipts))

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

    def dry_run(
        self, records: Sequence[Record], *, on_conflict: OnConflict = "keep", distinct_keys: bool = False
    ) -> list[Kept]:
        """Say what `keep` would answer now, and write nothing."""
        now = self._clock()
        addresser = Addresser(self.project, now, on_conflict=on_conflict)
        rows = addresser.address(records)
        refused = self.redaction.rows([each.row for each in rows]).refused if self.redaction else {}
        refused = refused | write_pipeline.future_times(records, now)
        batch_of = partial(self._batch, addresser, dry_run=True)
        return list(map(_kept, rows, self._write(rows, refused, batch_of, distinct_keys=distinct_keys)))

    def edit(self, name: str, changes: SessionChanges) -> ops.Session:
        """Replace what people edit. Raises `SessionNotFound` or `SessionErased`."""
        stated = changes.model_dump(mode="json", exclude_unset=True)
        if self.redaction:
            redacted = self.redaction.edited(stated)
            self.ledger.redacted(redacted.replaced, redacted.failed)
        session_id = identity.session(self.project, name).id
        return present(self._ask(ops.EDIT, ops.EditQuery(session_id=session_id, changes=stated)))

    def erase(self, name: str, *, dry_run: bool = False) -> erasure_reports.Report:
        """Delete a session's content and leave a tombstone; return a signed report. Raises `SessionNotFound`."""
        key = self._ask(ops.REPORT_KEY, ops.Nothing())["key"]  # first: a report that can't be signed would be lost
        query: ops.EraseQuery = {"session_id": identity.session(self.project, name).id, "dry_run": dry_run}
        report = erasure_reports.NOTHING_HERE
        left = True
        while left:
            step = self._ask(ops.ERASE, query)
            if step is None:
                raise SessionNotFound
            left = step["left"]
            report = erasure_reports.summed(report, step, erasure_reports.COUNTS)
        return erasure_reports.signed(report | {"project": self.project, "dry_run": dry_run}, key)

    def erase_user(self, user_id: str, *, dry_run: bool = False) -> erasure_reports.Report:
        """Erase everything about a user; return a signed report. The same call goes on with one that was cut."""
        key = self._ask(ops.REPORT_KEY, ops.Nothing())["key"]
        query: ops.EraseUserQuery = (
            {"user_id": user_id, "dry_run": True} if dry_run else {"user_id": user_id, "begin": True}
        )
        report = erasure_reports.NOTHING_HERE
        left = True
        while left:
            step = self._ask(ops.ERASE_USER, query)
            left = step["left"] or step.get("after") is not None
            # a dry run counts page by page; what an erasure has taken away, the store sums up
            report = erasure_reports.summed(report, step, erasure_reports.COUNTS if dry_run else erasure_reports.HERE)
            query = {"user_id": user_id}
            if dry_run:
                query |= {"dry_run": True, "after": step.get("after")}
        return erasure_reports.signed(report | {"project": self.project, "user_id": user_id, "dry_run": dry_run}, key)

    def _write(
        self,
        rows: Sequence[Addressed],
        refused: Mapping[int, Receipt],
        batch_of: Callable[[Sequence[Addressed]], Batch],
        *,
        distinct_keys: bool,
    ) -> list[Receipt]:
        def write(some: Sequence[Addressed]) -> list[Receipt]:
            return self.store.write(batch_of(some)).in_order(each.kind for each in some)

        return write_pipeline.write_records(rows, refused, write, distinct_keys=distinct_keys)

    def _batch(
        self,
        addresser: Addresser,
        addressed: Sequence[Addressed],
        *,
        return_parents: bool = False,
        dry_run: bool = False,
    ) -> Batch:
        batch = addresser.batch(addressed, return_parents=return_parents, dry_run=dry_run)
        if self._ownership is not None:
            claim(batch, self._ownership)
        return batch

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
    return Kept(receipt, session, each.interaction, each.folder)
