"""Turns what callers state into batches, and batches' receipts into answers.

A child brings its parent along: whatever is logged names its session, and the session is part of the same batch. One
record is a batch of one. A batch that the store refuses for the data of some record is halved until that record
stands alone, so that it never harms the others.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from logging_store import identity
from logging_store.errors import Conflict, Invalid, SessionErased, SessionNotFound
from logging_store.identity import Identity
from logging_store.ledger import Ledger
from logging_store.records import (
    MAX_REPEATS,
    Batch,
    Interaction,
    Receipt,
    Session,
    SessionChanges,
    receipt_of,
)
from logging_store.store import Store
from logging_store.values import restore_numbers

_REPEATED = Receipt(
    receipt="rejected",
    fields=("interaction_id",),
    reason=f"More than {MAX_REPEATS} statements about one interaction in one batch; send this one in another",
)


class Kept(NamedTuple):
    """What became of a record, and who it is: `interaction` is None for a session's own record."""

    receipt: Receipt
    session: Identity
    interaction: Identity | None = None


class _Addressed(NamedTuple):
    """An interaction with its identity and its row."""

    session: Identity
    interaction: Identity
    row: dict[str, Any]


class ConversationRepository:
    """The log of one project. `clock` tells when a record was received, `ledger` counts what became of it."""

    def __init__(
        self,
        store: Store,
        project: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        ledger: Ledger | None = None,
    ) -> None:
        self.store = store
        self.project = project
        self.ledger = ledger or Ledger()
        self._clock = clock

    def ensure_session(self, session: Session) -> Kept:
        """Create a session unless it is there; fill in what it lacks. The receipt carries the session."""
        who = identity.session(self.project, session.session_id)
        row = {**session.facts("session_id"), **_session_row(who, self._clock(), implicit=False)}
        with self.ledger.receiving(1) as receipts:
            try:
                receipts.extend(self.store.write(Batch(self.project, sessions=[row], return_sessions=True)).sessions)
            except (Invalid, Conflict) as error:
                receipts.append(receipt_of(error))
        (receipt,) = receipts
        if receipt.session is not None:
            receipt = receipt.model_copy(update={"session": restore_numbers(receipt.session)})
        return Kept(receipt, who)

    def log(self, interactions: Sequence[Interaction]) -> list[Kept]:
        """Store interactions with their sessions, all in one transaction; answer in the same order."""
        received_at = self._clock()
        named = {each.session_id for each in interactions if each.session_id is not None}
        sessions: dict[str | None, Identity] = {name: identity.session(self.project, name) for name in named}
        addressed = [
            # a microsecond apart, so that a batch without turns is read back in its order
            self._address(interaction, sessions.get(interaction.session_id), received_at + timedelta(microseconds=n))
            for n, interaction in enumerate(interactions)
        ]
        with self.ledger.receiving(len(addressed)) as receipts:
            receipts.extend(self._weigh(addressed, received_at))
        return [
            Kept(receipt, each.session, each.interaction) for each, receipt in zip(addressed, receipts, strict=True)
        ]

    def session(self, name: str) -> dict[str, Any]:
        """Return a session. Raises `SessionNotFound` or `SessionErased`."""
        who = identity.session(self.project, name)
        return restore_numbers(_present(self.store.session(self.project, who.id)))

    def sessions(self, query: dict[str, Any]) -> dict[str, Any]:
        """Return a page of sessions, newest first: see `Store.sessions`."""
        return restore_numbers(self.store.sessions(self.project, query))

    def transcript(self, name: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return a page of a session's interactions. Raises `SessionNotFound` or `SessionErased`."""
        who = identity.session(self.project, name)
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

    def gaps(self, name: str, ranges: int) -> dict[str, Any]:
        """Return what a session's turn counter lacks: see `Store.gaps`. Raises `SessionNotFound` or `SessionErased`."""
        who = identity.session(self.project, name)
        found = self.store.gaps(self.project, who.id, {"ranges": ranges})["sessions"]
        return _present(found[0] if found else None)

    def sessions_with_gaps(self, query: dict[str, Any]) -> dict[str, Any]:
        """Return a page of the sessions whose turn counters lack something: see `Store.gaps`."""
        return self.store.gaps(self.project, None, query)

    def edit(self, name: str, changes: SessionChanges) -> dict[str, Any]:
        """Replace what people edit. Raises `SessionNotFound` or `SessionErased`."""
        who = identity.session(self.project, name)
        stated = changes.model_dump(mode="json", exclude_unset=True)
        return restore_numbers(_present(self.store.edit(self.project, who.id, stated)))

    def erase(self, name: str) -> dict[str, Any]:
        """Delete a session's content and leave a tombstone. Raises `SessionNotFound`."""
        report = self.store.erase(self.project, identity.session(self.project, name).id)
        if report is None:
            raise SessionNotFound
        return report

    def _address(self, interaction: Interaction, named: Identity | None, received_at: datetime) -> _Addressed:
        session = named or identity.session(self.project, None)
        own = identity.interaction(self.project, session.id, interaction.interaction_id)
        row = interaction.facts("session_id", "interaction_id", "reply_to")
        row["session_id"] = session.id
        row["id"] = own.id
        row["created_at"] = received_at.isoformat()
        if own.key is not None:
            row["key"] = own.key
        if interaction.reply_to is not None:
            row["reply_to"] = identity.interaction(self.project, session.id, interaction.reply_to).id
        if row.get("status") == "pending":
            del row["status"]  # not a fact of its own: an interaction is pending until another status is known
        return _Addressed(session, own, row)

    def _weigh(self, addressed: Sequence[_Addressed], received_at: datetime) -> list[Receipt]:
        """Write what doesn't name an interaction too often."""
        too_many = _repeated_too_often(addressed)
        written = iter(self._write([each for n, each in enumerate(addressed) if n not in too_many], received_at))
        return [_REPEATED if n in too_many else next(written) for n in range(len(addressed))]

    def _write(self, addressed: Sequence[_Addressed], received_at: datetime) -> list[Receipt]:
        # the same session may be named by its id and by its key: the key is one more fact about it
        parents = {each.session.id: each.session for each in sorted(addressed, key=lambda a: a.session.key is not None)}
        batch = Batch(
            self.project,
            sessions=[_session_row(parent, received_at, implicit=True) for parent in parents.values()],
            interactions=[each.row for each in addressed],
        )
        try:
            return self.store.write(batch).interactions
        except (Invalid, Conflict) as error:
            if len(addressed) == 1:
                return [receipt_of(error)]
            middle = len(addressed) // 2
            return self._write(addressed[:middle], received_at) + self._write(addressed[middle:], received_at)


def _repeated_too_often(addressed: Sequence[_Addressed]) -> set[int]:
    """Return the places of the records whose interaction the batch has named `MAX_REPEATS` times before."""
    if len(addressed) <= MAX_REPEATS:
        return set()
    named: Counter[tuple[str, str]] = Counter()
    too_many = set()
    for place, each in enumerate(addressed):
        who = each.session.id, each.interaction.id
        named[who] += 1
        if named[who] > MAX_REPEATS:
            too_many.add(place)
    return too_many


def _session_row(who: Identity, received_at: datetime, *, implicit: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"id": who.id, "implicit": implicit, "created_at": received_at.isoformat()}
    if who.key is not None:
        row["key"] = who.key
    return row


def _present(session: dict[str, Any] | None) -> dict[str, Any]:
    if session is None:
        raise SessionNotFound
    if session["erased_at"] is not None:
        raise SessionErased(session["session_id"], session["erased_at"])
    return session
