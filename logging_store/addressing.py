"""Turns records into rows: whose they are, and which parents come along with them."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from logging_store.batches import KINDS, Batch, Kind, OnConflict, Row
from logging_store.records import identity
from logging_store.records.identity import Identity
from logging_store.records.models import Feedback, Folder, Interaction, Participant, Plan, Record, Session
from logging_store.records.restored import Restored, RestoredFolder, RestoredSession
from logging_store.records.values import canonical_key


class Addressed(NamedTuple):
    """A record with its identity and its row. `folder` and `session` are its own, or its parent's."""

    kind: Kind
    row: Row
    folder: Identity | None = None
    session: Identity | None = None
    interaction: Identity | None = None
    keyed: bool = False  # named by a key of several parts


class Addresser:
    """Addresses what a project received at one time.

    `author`: whose feedback is that names no author. `on_conflict`: what becomes of stored interactions that these say
    more, or something else, about. `next_number`: sessions of a folder that state no number get the next free one.
    """

    def __init__(
        self,
        project: str,
        received_at: datetime,
        author: str | None = None,
        *,
        on_conflict: OnConflict = "keep",
        next_number: bool = False,
    ) -> None:
        self.project = project
        self._author = author
        self._on_conflict = on_conflict
        self._next_number = next_number
        self._received_at = received_at
        self._sessions: dict[str, Identity] = {}

    def address(self, records: Sequence[Record]) -> list[Addressed]:
        # a microsecond apart, so that a batch without turns is read back in its order
        addressed = [
            self._address(each, self._received_at + timedelta(microseconds=n)) for n, each in enumerate(records)
        ]
        if numbered := {each.row["id"] for each in addressed if each.row.get("numbering") == "named"}:
            for each in addressed:
                if each.kind == "participants" and each.row["session_id"] in numbered:
                    each.row["numbering"] = "named"  # of whichever session has the number
        return addressed

    def batch(self, addressed: Sequence[Addressed], *, return_parents: bool = False, dry_run: bool = False) -> Batch:
        """Return records as one batch: of each kind those stated, in their order, then parents that only came along."""
        rows: dict[Kind, list[Row]] = {kind: [] for kind in KINDS}
        for each in addressed:
            rows[each.kind].append(each.row)
        folders = [each.folder for each in addressed if each.kind == "sessions" and each.folder]
        sessions = [each.session for each in addressed if each.kind != "sessions" and each.session]
        return Batch(
            self.project,
            sessions=rows["sessions"] + self._brought_along(sessions, rows["sessions"]),
            interactions=rows["interactions"],
            folders=rows["folders"] + self._brought_along(folders, rows["folders"]),
            participants=rows["participants"],
            feedback=rows["feedback"],
            return_parents=return_parents,
            dry_run=dry_run,
        )

    def _address(self, record: Record, received_at: datetime) -> Addressed:
        if isinstance(record, Restored):
            received_at = record.created_at
        match record:
            case Interaction():
                return self._interaction(record, received_at)
            case Session():
                return self._session(record, received_at)
            case Participant():
                session = self._named_session(record.session_id)
                row = record.facts() | {"session_id": session.id, "created_at": received_at}
                return Addressed("participants", row, session=session)
            case Folder():
                return self._folder(record, received_at)
            case Feedback():
                return self._feedback(record, received_at)
        raise TypeError(f"{type(record).__name__} is no record of its own")

    def _folder(self, folder: Folder, received_at: datetime) -> Addressed:
        who = identity.folder(self.project, folder.folder_id)
        row = folder.facts("folder_id", "plan") | _own(who, received_at, implicit=_was_implicit(folder))
        if folder.plan is not None:
            row |= folder.plan.facts()
        if folder.plan is not None and not isinstance(folder, RestoredFolder):
            row["sessions"] = list(self._planned(who.id, folder.plan, received_at))
        return Addressed("folders", row, folder=who)

    def _planned(self, folder_id: str, plan: Plan, received_at: datetime) -> Iterable[Row]:
        """Yield the sessions of a plan: locked until somebody opens them. Their dates are the store's to say."""
        for number in range(1, plan.sessions_per_week * plan.total_weeks + 1):
            row = _own(identity.numbered_session(self.project, folder_id, number), received_at, implicit=True)
            yield row | {"folder_id": folder_id, "session_number": number, "numbering": "named", "status": "locked"}

    def _session(self, session: Session, received_at: datetime) -> Addressed:
        who = session_identity(self.project, session)
        row = session.facts("session_id") | _own(who, received_at, implicit=_was_implicit(session))
        folder = None
        if session.folder_id is not None:
            folder = identity.folder(self.project, session.folder_id)
            row["folder_id"] = folder.id
            if session.session_id is None and session.session_number is not None:
                row["numbering"] = "named"
            elif self._next_number and session.session_number is None:
                row["numbering"] = "next"
        return Addressed("sessions", row, folder, who)

    def _interaction(self, interaction: Interaction, received_at: datetime) -> Addressed:
        name = interaction.interaction_id if interaction.key is None else canonical_key(interaction.key)
        if interaction.session_id is not None:
            session = self._named_session(interaction.session_id)
        elif interaction.key is not None:
            session = identity.keyed_session(self.project, canonical_key(interaction.key))
        else:
            session = identity.session(self.project, None)
        own = identity.interaction(self.project, session.id, name)
        row = interaction.values()
        for name_of_record in ("interaction_id", "key"):
            row.pop(name_of_record, None)
        row |= {"session_id": session.id, "id": own.id, "created_at": received_at}
        if own.key is not None:
            row["key"] = own.key
        if interaction.reply_to is not None:
            row["reply_to"] = identity.interaction(self.project, session.id, interaction.reply_to).id
        if self._on_conflict != "keep":  # which a row need not say
            row["on_conflict"] = self._on_conflict
        if interaction.status == "pending":
            del row["status"]  # not a fact of its own: an interaction is pending until another status is known
        return Addressed("interactions", row, None, session, own, interaction.key is not None)

    def _feedback(self, feedback: Feedback, received_at: datetime) -> Addressed:
        session = self._named_session(feedback.session_id)
        own = identity.interaction(self.project, session.id, feedback.interaction_id)
        at = {"created_at": received_at, "given_at": received_at}
        row = at | feedback.facts() | {"session_id": session.id, "interaction_id": own.id}
        if self._author is not None:
            row.setdefault("author", self._author)
        return Addressed("feedback", row, None, session, own)

    def _named_session(self, name: str) -> Identity:
        who = self._sessions.get(name)
        if who is None:
            who = self._sessions[name] = identity.session(self.project, name)
        return who

    def _brought_along(self, parents: Sequence[Identity], stated: Sequence[Row]) -> list[Row]:
        """Return rows of the parents that are not stated themselves."""
        # the same one may be named by its id and by its key: the key is one more fact about it
        distinct = {who.id: who for who in sorted(parents, key=lambda who: who.key is not None)}
        for row in stated:
            if (who := distinct.get(row["id"])) and (who.key is None or "key" in row):
                del distinct[who.id]
        return [_own(who, self._received_at, implicit=True) for who in distinct.values()]


def _was_implicit(record: Record) -> bool:
    return isinstance(record, RestoredFolder | RestoredSession) and record.implicit


def session_identity(project: str, session: Session) -> Identity:
    """Return the identity of a session that is named by its id, or by its number in a folder; a new one for neither."""
    if session.session_id is None and session.folder_id is not None and session.session_number is not None:
        folder = identity.folder(project, session.folder_id)
        return identity.numbered_session(project, folder.id, session.session_number)
    return identity.session(project, session.session_id)


def _own(who: Identity, received_at: datetime, *, implicit: bool) -> Row:
    row: dict[str, Any] = {"id": who.id, "implicit": implicit, "created_at": received_at}
    if who.key is not None:
        row["key"] = who.key
    return row
