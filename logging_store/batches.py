"""What a store writes in one transaction, and the receipt it returns for each record."""

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from logging_store.errors import Conflict, Invalid

Outcome = Literal["created", "filled", "duplicate", "revised", "conflict", "rejected", "spooled"]
Kind = Literal["folders", "sessions", "participants", "interactions", "feedback", "spans"]
Row = dict[str, Any]

#: Outcomes of a record that is in the store.
STORED: frozenset[Outcome] = frozenset({"created", "filled", "duplicate", "revised"})
#: Outcomes of a record that is in the store, or on this machine's disk and will be delivered.
ACKNOWLEDGED: frozenset[Outcome] = STORED | {"spooled"}
#: Reasons of rejected records for which there is nothing left to be done: what they speak of is gone on purpose.
GONE = frozenset({"erased", "expired"})

#: In write order: parents first.
KINDS: tuple[Kind, ...] = ("folders", "sessions", "participants", "interactions", "feedback", "spans")
_STUB_FIELDS = ("id", "key", "created_at")
_NUMBERED_STUB_FIELDS = (*_STUB_FIELDS, "folder_id", "session_number", "numbering")  # else it would be another session


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one project that are written in one transaction.

    A row maps columns to values, as turnlog.write takes it. An `implicit` row is a parent that no caller sent: it only
    makes sure that its child's session or folder exists. The session of each participant and of each feedback must be
    among the rows; those of spans are only known to the store. A row's `claim` is the owner that its session must have,
    where the caller may only reach its own.

        Batch(
            "default",
            sessions=[{"id": "2031621c-…", "implicit": True, "created_at": at}],
            interactions=[{"session_id": "2031621c-…", "id": "e90109bc-…", "prompt": "Hi", "created_at": at}],
        )
    """

    project: str
    sessions: Sequence[Row] = ()
    interactions: Sequence[Row] = ()
    folders: Sequence[Row] = ()
    participants: Sequence[Row] = ()
    feedback: Sequence[Row] = ()
    spans: Sequence[Row] = ()
    return_parents: bool = False  # receipts carry the folders and sessions that callers sent, as stored afterwards
    late: bool = False  # it comes from a spool, and one of its users may have been erased meanwhile
    database: str | None = None  # it is only written if the store is this one: `ServerSettings.database_id`
    dry_run: bool = False  # return the receipts and write nothing
    patient: bool = False  # it may take longer than a call: nobody waits for it

    def rows(self) -> Iterator[Row]:
        """Yield all rows, in the order of their receipts."""
        for kind in KINDS:
            yield from getattr(self, kind)

    @property
    def is_claimed(self) -> bool:
        """Whether a row demands an owner of its session."""
        return any("claim" in row for row in self.rows())

    @property
    def count(self) -> int:
        """The number of rows."""
        return sum(len(getattr(self, kind)) for kind in KINDS)

    @property
    def size(self) -> int:
        """The number of rows, the sessions of plans included."""
        size = len(self.sessions) + len(self.interactions) + len(self.participants) + len(self.feedback)
        size += len(self.spans)
        return size + sum(1 + len(row.get("sessions", ())) for row in self.folders)

    def can_merge(self, other: Self) -> bool:
        """Return whether both may be written in one transaction."""
        return self.project == other.project

    @classmethod
    def merge(cls, batches: Sequence[Self]) -> Self:
        """Concatenate batches of one project, in order."""
        first, *others = batches
        if not others:
            return first
        return cls(
            first.project,
            [row for batch in batches for row in batch.sessions],
            [row for batch in batches for row in batch.interactions],
            [row for batch in batches for row in batch.folders],
            [row for batch in batches for row in batch.participants],
            [row for batch in batches for row in batch.feedback],
            [row for batch in batches for row in batch.spans],
            any(batch.return_parents for batch in batches),
        )

    def explicit_rows(self) -> list[Row]:
        """Return the rows that callers sent, without implicit parents."""
        return [row for row in self.rows() if not row.get("implicit")]

    def parent_ids(self) -> set[str]:
        """Return the ids of all sessions and folders that the rows belong to."""
        return {id_ for row in self.rows() for id_ in _parents(row)}

    def claims_on(self, id_: str) -> set[str | None]:
        """Return the claims of the rows of a session or folder; None stands for a row without a claim."""
        return {row.get("claim") for row in self.rows() if id_ in _parents(row)}

    def select(self, ids: Container[str]) -> Self:
        """Return the rows of these sessions and folders, with their parents."""
        return self._with_parents(row for row in self.rows() if any(id_ in ids for id_ in _parents(row)))

    def exclude(self, ids: Container[str]) -> Self:
        """Return the rows of all other sessions and folders, with their parents."""
        return self._with_parents(row for row in self.rows() if not any(id_ in ids for id_ in _parents(row)))

    def filter(self, predicate: Callable[[Kind, Row], bool]) -> Self:
        """Return the rows for which `predicate` is true, with their parents."""
        return self._with_parents(row for kind in KINDS for row in getattr(self, kind) if predicate(kind, row))

    def single(self, row: Row) -> Self:
        """Return one row of the batch with its parents."""
        return self._with_parents([row])

    def halves(self) -> tuple[Self, ...]:
        """Split the batch in two, each half with the parents of its rows; return () if it has a single row."""
        rows = sorted(
            self.explicit_rows() or self.rows(), key=lambda row: _parents(row)[0]
        )  # a session stays in one half
        if len(rows) < 2:  # noqa: PLR2004
            return ()
        middle = len(rows) // 2
        return self._with_parents(rows[:middle]), self._with_parents(rows[middle:])

    def to_json(self) -> Row:
        """Return the argument of turnlog.write, which is also what the spool stores."""
        payload = {
            "project": self.project,
            "folders": self.folders,
            "sessions": self.sessions,
            "participants": self.participants,
            "interactions": self.interactions,
            "return_parents": self.return_parents,
        }
        if self.feedback:
            payload["feedback"] = self.feedback
        if self.spans:
            payload["spans"] = self.spans
        if self.late:
            payload["late"] = True
        if self.database:
            payload["database"] = self.database
        if self.dry_run:
            payload["dry_run"] = True
        return payload

    def _with_parents(self, rows: Iterable[Row]) -> Self:
        chosen = {id(row) for row in rows}
        folders, sessions, participants, interactions, feedback, spans = (
            [row for row in getattr(self, kind) if id(row) in chosen] for kind in KINDS
        )
        sessions = _with_stubs(self.sessions, sessions, participants + interactions + feedback, "session_id")
        folders = _with_stubs(self.folders, folders, sessions, "folder_id")
        return replace(
            self,
            folders=folders,
            sessions=sessions,
            participants=participants,
            interactions=interactions,
            feedback=feedback,
            spans=spans,
        )


def _parents(row: Row) -> list[str]:
    """Return the ids of the sessions and folders that a row belongs to, the closest first."""
    if "trace_session" in row:
        return [row["trace_session"], *(row[name] for name in ("stated_session", "session_id") if name in row)]
    own = [row["session_id"]] if "session_id" in row else [row["id"]]
    if folder := row.get("folder_id"):
        own.append(folder)
    return own + [session["id"] for session in row.get("sessions", ())]


def _with_stubs(known: Sequence[Row], chosen: Sequence[Row], children: Sequence[Row], parent_field: str) -> list[Row]:
    """Return the chosen parents, and an implicit stub for each other parent that the children need, in batch order.

    Several callers may write below one parent: each child needs a parent row with its own claim, and the first row of a
    parent stays the first.
    """
    needed = {
        (child[parent_field], child.get("claim")): child.get("created_at")
        for child in children
        if child.get(parent_field)
    }
    for row in chosen:
        needed.pop((row["id"], row.get("claim")), None)
    stubs: dict[tuple[str, str | None], Row] = {}
    for (id_, claim), created_at in needed.items():
        stubs[id_, claim] = {"id": id_, "created_at": created_at, "implicit": True}
        if claim is not None:
            stubs[id_, claim]["claim"] = claim
        for row in known:
            if row["id"] == id_:
                fields = _NUMBERED_STUB_FIELDS if row.get("numbering") == "named" else _STUB_FIELDS
                stubs[id_, claim] |= {field: row[field] for field in fields if field in row}
    chosen_ids = {id(row) for row in chosen}
    ordered = [row if id(row) in chosen_ids else stubs.pop((row["id"], row.get("claim")), None) for row in known]
    return [row for row in ordered if row] + list(stubs.values())


class Receipt(BaseModel):
    """The outcome of one record.

    `fields`: those that were filled, or those that contradict the stored record. `differs`: those that contradict it
    although others were filled. `reason`: also `older`, of a record that isn't shown since a further one is stored.
    `places`: the positions of the records of the call that share a key, where several do. `attempted`: column -> value
    of a unique rule that another row (`held_by`, its id) holds. `session`, `folder`: the parent as stored, where the
    batch asked for it. `planned`: one entry per session of a folder's plan, `{session_id, session_number, receipt, …}`.
    """

    model_config = ConfigDict(frozen=True)

    receipt: Outcome
    fields: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()
    places: tuple[int, ...] = ()
    reason: str | None = None
    constraint: str | None = None
    columns: tuple[str, ...] = ()
    attempted: dict[str, str | None] = Field(default_factory=dict)
    held_by: str | None = None
    session: dict[str, Any] | None = None
    folder: dict[str, Any] | None = None
    planned: tuple[dict[str, Any], ...] = ()

    @property
    def stored(self) -> bool:
        return self.receipt in STORED

    @property
    def acknowledged(self) -> bool:
        return self.receipt in ACKNOWLEDGED


@dataclass(frozen=True, slots=True)
class BatchReceipts:
    """The receipts of a batch, each list in the order of the batch's rows of that kind."""

    sessions: list[Receipt] = field(default_factory=list)
    interactions: list[Receipt] = field(default_factory=list)
    folders: list[Receipt] = field(default_factory=list)
    participants: list[Receipt] = field(default_factory=list)
    feedback: list[Receipt] = field(default_factory=list)
    spans: list[Receipt] = field(default_factory=list)

    @classmethod
    def all(cls, receipt: Receipt, batch: Batch) -> Self:
        """Return the same receipt for every row of a batch."""
        return cls(**{kind: [receipt] * len(getattr(batch, kind)) for kind in KINDS})

    def split(self, batches: Sequence[Batch]) -> Iterator[Self]:
        """Yield the receipts of each of the batches that were merged into this one."""
        remaining = {kind: iter(getattr(self, kind)) for kind in KINDS}
        for batch in batches:
            yield type(self)(**{kind: list(islice(remaining[kind], len(getattr(batch, kind)))) for kind in KINDS})

    def in_order(self, kinds: Iterable[Kind]) -> list[Receipt]:
        """Return the receipts of explicit rows, given the kind of each row in order."""
        remaining: dict[Kind, Iterator[Receipt]] = {kind: iter(getattr(self, kind)) for kind in KINDS}
        return [next(remaining[kind]) for kind in kinds]

    def __iter__(self) -> Iterator[Receipt]:
        """Yield them in the order of `Batch.rows`."""
        for kind in KINDS:
            yield from getattr(self, kind)


def error_receipt(error: Invalid | Conflict) -> Receipt:
    """Return the receipt of a record that the store rejected with an error."""
    if isinstance(error, Conflict):
        return Receipt(
            receipt="conflict",
            reason=str(error),
            constraint=error.constraint,
            columns=error.columns,
            attempted=error.attempted,
        )
    return Receipt(receipt="rejected", reason=str(error), fields=(error.field,) if error.field else ())
