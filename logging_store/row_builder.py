"""Turns the records of one call into rows, and adds the parents that a record only names."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from logging_store.batches import KINDS, Batch, Kind, Row
from logging_store.records import identity
from logging_store.records.identity import Identity
from logging_store.records.models import (
    Feedback,
    Folder,
    Interaction,
    InteractionStatus,
    LoggedInteraction,
    OnConflict,
    Participant,
    Plan,
    Record,
    Restored,
    RestoredFolder,
    RestoredInteraction,
    RestoredSession,
    Session,
)
from logging_store.records.values import canonical_key


class RecordRow(NamedTuple):
    """A record's row and identities. `folder` and `session` are the record's own, or its parent's."""

    kind: Kind
    row: Row
    folder: Identity | None = None
    session: Identity | None = None
    interaction: Identity | None = None
    has_composite_key: bool = False


class RowBuilder:
    """Builds rows for what one project received at one time.

    `author`: the author of feedback that names none. `on_conflict`: how interactions that don't say it themselves
    change what is stored already. `may_revise`: whether `revise` is allowed; else it is `keep`, and what contradicts is
    a conflict. `next_number`: sessions in a folder that have no number get the next free one.
    """

    def __init__(
        self,
        project: str,
        received_at: datetime,
        author: str | None = None,
        *,
        on_conflict: OnConflict = "keep",
        may_revise: bool = True,
        next_number: bool = False,
    ) -> None:
        self.project = project
        self._author = author
        self._on_conflict = on_conflict
        self._may_revise = may_revise
        self._next_number = next_number
        self._received_at = received_at
        self._sessions: dict[str, Identity] = {}

    def build(self, records: Sequence[Record]) -> list[RecordRow]:
        """Return one row per record, in order. Raises `TypeError` for a record that can't be written by itself."""
        # a microsecond apart, so that interactions without turns are read in the order of the call
        rows = [self._build(record, self._received_at + timedelta(microseconds=n)) for n, record in enumerate(records)]
        if numbered := {each.row["id"] for each in rows if each.row.get("numbering") == "named"}:
            for each in rows:
                if each.kind == "participants" and each.row["session_id"] in numbered:
                    each.row["numbering"] = "named"  # they take part in whichever session has the number
        return rows

    def batch(self, rows: Sequence[RecordRow], *, return_parents: bool = False, dry_run: bool = False) -> Batch:
        """Return rows as one batch: per kind the records in order, then the implicit parents."""
        by_kind: dict[Kind, list[Row]] = {kind: [] for kind in KINDS}
        for each in rows:
            by_kind[each.kind].append(each.row)
        folders = [each.folder for each in rows if each.kind == "sessions" and each.folder]
        sessions = [each.session for each in rows if each.kind != "sessions" and each.session]
        return Batch(
            self.project,
            sessions=by_kind["sessions"] + self._implicit_parents(sessions, by_kind["sessions"]),
            interactions=by_kind["interactions"],
            folders=by_kind["folders"] + self._implicit_parents(folders, by_kind["folders"]),
            participants=by_kind["participants"],
            feedback=by_kind["feedback"],
            return_parents=return_parents,
            dry_run=dry_run,
        )

    def _build(self, record: Record, received_at: datetime) -> RecordRow:
        if isinstance(record, Restored):
            received_at = record.created_at
        match record:
            case Interaction():
                return self._interaction(record, received_at)
            case Session():
                return self._session(record, received_at)
            case Participant():
                session = self._session_named(record.session_id)
                row = record.json_fields() | {"session_id": session.id, "created_at": received_at}
                return RecordRow("participants", row, session=session)
            case Folder():
                return self._folder(record, received_at)
            case Feedback():
                return self._feedback(record, received_at)
        raise TypeError(f"{type(record).__name__} can't be written by itself")

    def _folder(self, folder: Folder, received_at: datetime) -> RecordRow:
        own = identity.folder(self.project, folder.folder_id)
        row = folder.json_fields("folder_id", "plan") | _base_row(own, received_at, implicit=_is_implicit(folder))
        if folder.plan is not None:
            row |= folder.plan.json_fields()
        if folder.plan is not None and not isinstance(folder, RestoredFolder):
            row["sessions"] = list(self._planned_sessions(own.id, folder.plan, received_at))
        return RecordRow("folders", row, folder=own)

    def _planned_sessions(self, folder_id: str, plan: Plan, received_at: datetime) -> Iterable[Row]:
        """Yield the sessions of a plan, locked until a caller opens them. The store derives their dates."""
        for number in range(1, plan.sessions_per_week * plan.total_weeks + 1):
            own = identity.numbered_session(self.project, folder_id, number)
            yield _base_row(own, received_at, implicit=True) | {
                "folder_id": folder_id,
                "session_number": number,
                "numbering": "named",
                "status": "locked",
            }

    def _session(self, session: Session, received_at: datetime) -> RecordRow:
        own = session_identity(self.project, session)
        row = session.json_fields("session_id") | _base_row(own, received_at, implicit=_is_implicit(session))
        folder = None
        if session.folder_id is not None:
            folder = identity.folder(self.project, session.folder_id)
            row["folder_id"] = folder.id
            if session.session_id is None and session.session_number is not None:
                row["numbering"] = "named"
            elif self._next_number and session.session_number is None:
                row["numbering"] = "next"
        return RecordRow("sessions", row, folder, own)

    def _interaction(self, interaction: Interaction, received_at: datetime) -> RecordRow:
        name = interaction.interaction_id if interaction.key is None else canonical_key(interaction.key)
        if interaction.session_id is not None:
            session = self._session_named(interaction.session_id)
        elif interaction.key is not None:
            session = identity.keyed_session(self.project, canonical_key(interaction.key))
        else:
            session = identity.session(self.project, None)
        own = identity.interaction(self.project, session.id, name)
        row = interaction.python_fields()
        for name_field in ("interaction_id", "key"):
            row.pop(name_field, None)
        row |= {"session_id": session.id, "id": own.id, "created_at": received_at}
        if own.key is not None:
            row["key"] = own.key
        for name, other in (("reply_to", interaction.reply_to), ("alternative_to", interaction.alternative_to)):
            if other is not None:
                row[name] = identity.interaction(self.project, session.id, other).id
        on_conflict = self._mode(interaction)
        row.pop("on_conflict", None)
        if isinstance(interaction, RestoredInteraction) and interaction.revisions:
            row["revisions"] = [each.json_fields() for each in interaction.revisions]
        if on_conflict != "keep":  # the default, which rows leave out
            row["on_conflict"] = on_conflict
        if interaction.status == derived_status(interaction):
            row.pop("status", None)
        return RecordRow("interactions", row, None, session, own, interaction.key is not None)

    def _mode(self, interaction: Interaction) -> OnConflict:
        on_conflict = interaction.on_conflict if isinstance(interaction, LoggedInteraction) else self._on_conflict
        return "keep" if on_conflict == "revise" and not self._may_revise else on_conflict

    def _feedback(self, feedback: Feedback, received_at: datetime) -> RecordRow:
        session = self._session_named(feedback.session_id)
        name = feedback.interaction_id
        own = None if name is None else identity.interaction(self.project, session.id, name)
        times = {"created_at": received_at, "given_at": received_at}
        row = times | feedback.json_fields() | {"session_id": session.id}
        if own is not None:
            row["interaction_id"] = own.id
        if self._author is not None:
            row.setdefault("author", self._author)
        return RecordRow("feedback", row, None, session, own)

    def _session_named(self, name: str) -> Identity:
        own = self._sessions.get(name)
        if own is None:
            own = self._sessions[name] = identity.session(self.project, name)
        return own

    def _implicit_parents(self, parents: Sequence[Identity], explicit: Sequence[Row]) -> list[Row]:
        """Return rows for the parents that have no row of their own."""
        # children may name one parent by its id and by its key; the one with the key wins
        missing = {own.id: own for own in sorted(parents, key=lambda own: own.key is not None)}
        for row in explicit:
            if (own := missing.get(row["id"])) and (own.key is None or "key" in row):
                del missing[own.id]
        return [_base_row(own, self._received_at, implicit=True) for own in missing.values()]


def session_identity(project: str, session: Session) -> Identity:
    """Return the identity of a session by its id, else by its number in a folder, else a new one."""
    if session.session_id is None and session.folder_id is not None and session.session_number is not None:
        folder = identity.folder(project, session.folder_id)
        return identity.numbered_session(project, folder.id, session.session_number)
    return identity.session(project, session.session_id)


def derived_status(interaction: Interaction) -> InteractionStatus:
    """Return the status that an interaction has without one; the store keeps no other."""
    if interaction.error:
        return "failed"
    return "pending" if interaction.response is None else "completed"


def _is_implicit(record: Record) -> bool:
    return isinstance(record, RestoredFolder | RestoredSession) and record.implicit


def _base_row(own: Identity, received_at: datetime, *, implicit: bool) -> Row:
    row: dict[str, Any] = {"id": own.id, "implicit": implicit, "created_at": received_at}
    if own.key is not None:
        row["key"] = own.key
    return row
