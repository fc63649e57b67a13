"""Writes records as batches, and returns each record's receipt with its identities.

A child brings its parent along: every interaction names its session, and the session is part of the same batch. One
record is a batch of one. An invalid record doesn't fail the others: see `write_pipeline`.

    repository = ConversationRepository(store, "default")
    (result,) = repository.log([Interaction(session_id="lesson-1", prompt="Hi", response="Hello!")])
    result.receipt.receipt  # "created", or "spooled" while the store is away
    result.session.id  # "…", which the session id "lesson-1" always leads to
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, Self

from logging_store import erasure_reports, span_rows, write_pipeline
from logging_store import operations as ops
from logging_store.batches import Batch, Receipt, Row
from logging_store.errors import AlreadyMerged, InteractionNotFound, NotOwner, SessionNotFound
from logging_store.log_reader import LogReader, require_session
from logging_store.metrics.ledger import Ledger
from logging_store.ownership import Ownership, add_claims
from logging_store.records import identity
from logging_store.records.identity import Identity
from logging_store.records.models import (
    Folder,
    Interaction,
    OnConflict,
    Participant,
    ParticipantInput,
    Record,
    Session,
    SessionChanges,
)
from logging_store.records.spans import Span
from logging_store.redaction import Redaction
from logging_store.row_builder import RecordRow, RowBuilder, session_identity
from logging_store.store import Store

#: Counts of what a merge of a guest moved.
_MERGED_COUNTS = ("sessions", "participations", "turns", "feedback", "folders")


class WriteResult(NamedTuple):
    """A record's receipt and identities. The session and the folder are the record's own, or its parent's."""

    receipt: Receipt
    maybe_session: Identity | None = None
    interaction: Identity | None = None
    folder: Identity | None = None

    @property
    def session(self) -> Identity:
        assert self.maybe_session is not None  # noqa: S101 - only a folder has none
        return self.maybe_session


class ConversationRepository(LogReader):
    """The log of one project. `clock`: when a record was received. `ledger`: counts receipts.

    `ownership`: limits the caller to sessions of its own. `redaction`: redacts all texts before they are stored.
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

    @property
    def _may_revise(self) -> bool:
        """Whether the caller may revise what is logged: a browser adds to it, and doesn't rewrite it."""
        return self._ownership is None

    def for_caller(self, project: str, ownership: Ownership | None) -> Self:
        """Return the log of a project, limited to what one caller reaches."""
        if project == self.project and ownership is self._ownership:
            return self
        return type(self)(self.store, project, self._clock, self.ledger, ownership=ownership, redaction=self.redaction)

    def write(
        self,
        records: Sequence[Record],
        *,
        next_number: bool = False,
        return_parents: bool = False,
        on_conflict: OnConflict = "keep",
        distinct_keys: bool = False,
    ) -> list[WriteResult]:
        """Write records of any kind with their parents in one transaction; return one result per record, in order.

        `next_number`: sessions in a folder that have no number get the next free one.
        `return_parents`: the receipts of folders and sessions carry these as stored afterwards.
        `on_conflict`: how interactions change what is stored already.
        `distinct_keys`: of interactions that share a composite key only the first is written: see `write_pipeline`.

        Raises `NotOwner` and `Invalid` before anything is written if the caller may not write one of the records, and
        `StoreUnavailable` if the records can neither be stored nor spooled.
        """
        now = self._clock()
        author = self._ownership.author if self._ownership else None
        builder = RowBuilder(
            self.project, now, author, on_conflict=on_conflict, may_revise=self._may_revise, next_number=next_number
        )
        rows = builder.build(records)
        build_batch = partial(self._build_batch, builder, return_parents=return_parents)
        if self._ownership is not None:
            build_batch(rows)  # raises for a claim that the caller can't prove, before anything is written
        with self.ledger.receiving(len(rows)) as receipts:
            rejected = self._redact(rows) | write_pipeline.check_times(records, now)
            receipts.extend(self._write_rows(rows, rejected, build_batch, distinct_keys=distinct_keys))
        return list(map(_result, rows, receipts))

    def dry_run(
        self, records: Sequence[Record], *, on_conflict: OnConflict = "keep", distinct_keys: bool = False
    ) -> list[WriteResult]:
        """Return what `write` would return now, and write nothing. Spooled records are not considered."""
        now = self._clock()
        builder = RowBuilder(self.project, now, on_conflict=on_conflict, may_revise=self._may_revise)
        rows = builder.build(records)
        rejected = self.redaction.redact_rows([each.row for each in rows]).rejected if self.redaction else {}
        rejected = rejected | write_pipeline.check_times(records, now)
        build_batch = partial(self._build_batch, builder, dry_run=True)
        return list(map(_result, rows, self._write_rows(rows, rejected, build_batch, distinct_keys=distinct_keys)))

    def log(self, interactions: Sequence[Interaction]) -> list[WriteResult]:
        """Write interactions with their sessions in one transaction; return one result each, in order."""
        return self.write(interactions)

    def write_spans(self, spans: Sequence[Span]) -> list[Receipt]:
        """Write spans of traces in one transaction, with the calls among them; return a receipt per span, in order.

        A call becomes an interaction of its session, which is known now or later: see `logging_store.records.spans`.
        Its receipt is that of the interaction, or `rejected` with the reason `erased`. Spans of a call that is stored
        already are `duplicate` or `filled`, whichever of two instrumentations they are of. A span that is rejected, as
        those dated in the future are, names no session for others.

        Raises `NotOwner` for a caller who is limited to sessions of its own, and `StoreUnavailable` as `write` does.
        """
        if self._ownership is not None:
            raise NotOwner("Spans of traces need a secret key")
        now = self._clock()
        received = [now + timedelta(microseconds=n) for n in range(len(spans))]
        rows = span_rows.columns(self.project, spans, received)
        with self.ledger.receiving(len(rows)) as receipts:
            rejected = self._redact_spans(rows)
            rejected |= write_pipeline.check_times([span.times for span in spans], now)
            span_rows.name_fields(rows)
            receipts.extend(
                write_pipeline.write_records([RecordRow("spans", row) for row in rows], rejected, self._write_spans)
            )
        return list(receipts)

    def ensure_session(self, session: Session) -> WriteResult:
        """Create a session unless it exists; fill its empty fields. The receipt carries the session."""
        return self.open_session(session)[0]

    def open_session(
        self, session: Session, participants: Sequence[ParticipantInput] = (), *, next_number: bool = False
    ) -> list[WriteResult]:
        """Ensure a session with its participants; return the session's result, then one per participant.

        `next_number`: a session in a folder that has no number gets the next free one.
        """
        name = session.session_id
        if participants and name is None:
            name = session_identity(self.project, session).id
            if session.session_number is None:
                session = session.model_copy(update={"session_id": name})
        records = [Participant(session_id=name, **each.model_dump()) for each in participants if name]
        return self.write([session, *records], next_number=next_number, return_parents=True)

    def ensure_folder(self, folder: Folder) -> WriteResult:
        """Create a folder with the sessions of its plan, unless it exists. The receipt carries the folder."""
        (result,) = self.write([folder], return_parents=True)
        return result

    def edit(self, name: str, changes: SessionChanges) -> ops.Session:
        """Replace fields that people edit. Raises `SessionNotFound` or `SessionErased`."""
        fields = changes.model_dump(mode="json", exclude_unset=True)
        if self.redaction:
            redacted = self.redaction.redact_changes(fields)
            self.ledger.redacted(redacted.replaced, redacted.failed)
        session_id = identity.session(self.project, name).id
        return require_session(self._ask(ops.EDIT, ops.EditQuery(session_id=session_id, changes=fields)))

    def choose(self, name: str, interaction: str) -> ops.SessionRef:
        """Make an interaction the current one of its alternatives, from now on.

        Raises `SessionNotFound`, `SessionErased` or `InteractionNotFound`.
        """
        session_id = identity.session(self.project, name).id
        query: ops.ChooseQuery = {
            "session_id": session_id,
            "interaction_id": identity.interaction(self.project, session_id, interaction).id,
            "at": self._clock().isoformat(),
        }
        choice = self._ask(ops.CHOOSE, query)
        session = require_session(choice["session"])
        if not choice["chosen"]:
            raise InteractionNotFound
        return session

    def erase(self, name: str, *, dry_run: bool = False) -> erasure_reports.Report:
        """Erase a session's content, leave a tombstone, and return a signed report. Raises `SessionNotFound`.

        `dry_run`: only count.
        """
        # first, since an erasure without a signed report proves nothing
        key = self._ask(ops.REPORT_KEY, ops.NoQuery())["key"]
        query: ops.EraseQuery = {"session_id": identity.session(self.project, name).id, "dry_run": dry_run}
        report = erasure_reports.EMPTY
        left = True
        while left:
            step = self._ask(ops.ERASE, query)
            if step is None:
                raise SessionNotFound
            left = step["left"]
            report = erasure_reports.add_step(report, step, erasure_reports.COUNTS)
        return erasure_reports.sign(report | {"project": self.project, "dry_run": dry_run}, key)

    def erase_interaction(self, session: str, name: str, *, dry_run: bool = False) -> erasure_reports.Report:
        """Erase one interaction and the feedback on it, leave a tombstone, and return a signed report.

        `dry_run`: only count. Raises `SessionNotFound`, `SessionErased` or `InteractionNotFound`.
        """
        key = self._ask(ops.REPORT_KEY, ops.NoQuery())["key"]
        session_id = identity.session(self.project, session).id
        query: ops.EraseInteractionQuery = {
            "session_id": session_id,
            "interaction_id": identity.interaction(self.project, session_id, name).id,
            "dry_run": dry_run,
        }
        found = self._ask(ops.ERASE_INTERACTION, query)
        if found["erased"] is None:
            require_session(found["session"])
            raise InteractionNotFound
        local = {name: found.get(name, count) for name, count in erasure_reports.EMPTY.items()}
        report = local | {**found["erased"], "project": self.project, "session_id": session_id, "dry_run": dry_run}
        return erasure_reports.sign(report, key)

    def erase_user(self, user_id: str, *, dry_run: bool = False) -> erasure_reports.Report:
        """Erase everything about a user and return a signed report. Calling it again resumes an interrupted erasure.

        What is of guests who were merged into the user goes, too; what became another user's stays, and the report
        names that user in `merged_into`.
        """
        key = self._ask(ops.REPORT_KEY, ops.NoQuery())["key"]
        merged_into = self._ask(ops.MERGES, ops.UserQuery(user_id=user_id))["into"]
        query: ops.EraseUserQuery = (
            {"user_id": user_id, "dry_run": True} if dry_run else {"user_id": user_id, "begin": True}
        )
        report = erasure_reports.EMPTY
        left = True
        while left:
            step = self._ask(ops.ERASE_USER, query)
            left = step["left"] or step.get("after") is not None
            # a dry run counts page by page; an erasure returns totals of the store, but not of this machine's disk
            report = erasure_reports.add_step(
                report, step, erasure_reports.COUNTS if dry_run else erasure_reports.LOCAL_COUNTS
            )
            query = {"user_id": user_id}
            if dry_run:
                query |= {"dry_run": True, "after": step.get("after")}
        about = {"project": self.project, "user_id": user_id, "merged_into": merged_into, "dry_run": dry_run}
        return erasure_reports.sign(report | about, key)

    def merge_user(self, guest: str, into: str, *, dry_run: bool = False) -> dict[str, Any]:
        """Make everything of a guest a user's, also what arrives later, and return counts of what moved.

        `dry_run`: only count. Calling it again resumes an interrupted merge. Raises `AlreadyMerged`.
        """
        query: ops.MergeUserQuery = {"user_id": guest, "into": into}
        first = query.copy()
        if dry_run:
            first["dry_run"] = True
        else:
            first["begin"] = True
        step = self._ask(ops.MERGE_USER, first)
        report: dict[str, Any] = {**step}
        while step["left"] or step["after"] is not None:
            if dry_run:
                query = first.copy()
                query["after"] = step["after"]
            step = self._ask(ops.MERGE_USER, query)
            report = erasure_reports.add_step(report, step, _MERGED_COUNTS)
        if step["merged_into"] is not None:
            raise AlreadyMerged(step["merged_into"])
        return report | {"project": self.project, "user_id": guest, "into": into, "dry_run": dry_run}

    def _write_rows(
        self,
        rows: Sequence[RecordRow],
        rejected: Mapping[int, Receipt],
        build_batch: Callable[[Sequence[RecordRow]], Batch],
        *,
        distinct_keys: bool,
    ) -> list[Receipt]:
        def write(some_rows: Sequence[RecordRow]) -> list[Receipt]:
            return self.store.write(build_batch(some_rows)).in_order(each.kind for each in some_rows)

        return write_pipeline.write_records(rows, rejected, write, distinct_keys=distinct_keys)

    def _build_batch(
        self,
        builder: RowBuilder,
        rows: Sequence[RecordRow],
        *,
        return_parents: bool = False,
        dry_run: bool = False,
    ) -> Batch:
        batch = builder.batch(rows, return_parents=return_parents, dry_run=dry_run)
        if self._ownership is not None:
            add_claims(batch, self._ownership)
        return batch

    def _write_spans(self, rows: Sequence[RecordRow]) -> list[Receipt]:
        placed = span_rows.place(self.project, [each.row for each in rows])
        return self.store.write(Batch(self.project, spans=placed)).spans

    def _redact_spans(self, rows: Sequence[Row]) -> dict[int, Receipt]:
        """Redact spans, their calls and feedback in place; return position -> receipt of those that failed."""
        if self.redaction is None:
            return {}
        parts = list(span_rows.redactable(rows))
        redacted = self.redaction.redact_rows([part for _, part in parts])
        self.ledger.redacted(redacted.replaced, redacted.failed)
        return {parts[n][0]: receipt for n, receipt in redacted.rejected.items()}

    def _redact(self, rows: Sequence[RecordRow]) -> dict[int, Receipt]:
        """Redact rows in place; return position -> receipt of those whose redaction failed."""
        if self.redaction is None:
            return {}
        redacted = self.redaction.redact_rows([each.row for each in rows])
        self.ledger.redacted(redacted.replaced, redacted.failed)
        return redacted.rejected


def _result(each: RecordRow, receipt: Receipt) -> WriteResult:
    session = each.session
    if receipt.session is not None:
        # a session that was named by its number may have another id than the one derived from the number
        session = Identity(receipt.session["session_id"], receipt.session["key"])
    return WriteResult(receipt, session, each.interaction, each.folder)
