"""What a store writes in one transaction, and what it answers for each record of it."""

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from logging_store.errors import Conflict, Invalid

Outcome = Literal["created", "filled", "duplicate", "conflict", "rejected", "spooled"]
#: What becomes of a stored interaction that a row says more, or something else, about: see turnlog.write.
OnConflict = Literal["keep", "report", "fill"]
Kind = Literal["folders", "sessions", "participants", "interactions", "feedback"]
Row = dict[str, Any]

#: Receipts that mean: what the record says is in the store.
STORED: frozenset[Outcome] = frozenset({"created", "filled", "duplicate"})
#: Receipts that acknowledge: what the record says is in the store, or on this machine's disk and will be.
KEPT: frozenset[Outcome] = STORED | {"spooled"}

#: In the order in which they are written: parents first.
KINDS: tuple[Kind, ...] = ("folders", "sessions", "participants", "interactions", "feedback")
_OF_A_STUB = ("id", "key", "created_at")
_OF_A_NUMBERED_STUB = (*_OF_A_STUB, "folder_id", "session_number", "numbering")  # else it would be another session


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one project that are written together or not at all.

    Rows are as `turnlog.write` takes them: values under the columns' names. A row that says `implicit` states
    nothing of its own: it is a parent that came along with its child. The session of a participant or of
    feedback must be among the rows.
    A row's `claim` says whose its session must be, where the caller only reaches some: see turnlog.write.
    """

    project: str
    sessions: Sequence[Row] = ()
    interactions: Sequence[Row] = ()
    folders: Sequence[Row] = ()
    participants: Sequence[Row] = ()
    feedback: Sequence[Row] = ()
    return_parents: bool = False  # receipts carry the stated folders and sessions as they are afterwards
    late: bool = False  # it has waited in a spool, and somebody may have been erased meanwhile
    dry_run: bool = False  # only say what would become of it

    def rows(self) -> Iterator[Row]:
        """Yield all rows, in the order of their receipts."""
        for kind in KINDS:
            yield from getattr(self, kind)

    @property
    def is_claimed(self) -> bool:
        """Whether some row says whose its session must be."""
        return any("claim" in row for row in self.rows())

    @property
    def count(self) -> int:
        """The number of rows."""
        return sum(len(getattr(self, kind)) for kind in KINDS)

    @property
    def size(self) -> int:
        size = len(self.sessions) + len(self.interactions) + len(self.participants) + len(self.feedback)
        return size + sum(1 + len(row.get("sessions", ())) for row in self.folders)

    def fits(self, other: Self) -> bool:
        """Tell whether both may be written as one."""
        return self.project == other.project

    @classmethod
    def merge(cls, batches: Sequence[Self]) -> Self:
        """Return batches that fit each other as one, in their order."""
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
            any(batch.return_parents for batch in batches),
        )

    def stated(self) -> list[Row]:
        """Return the rows that callers stated; a parent that only came along is none."""
        return [row for row in self.rows() if not row.get("implicit")]

    def parent_ids(self) -> set[str]:
        """Return the ids of all sessions and folders that the records are of."""
        return {id_ for row in self.rows() for id_ in _parents(row)}

    def claims_of(self, id_: str) -> set[str | None]:
        """Return the claims of the rows that name a session; None: of one that claims nothing."""
        return {row.get("claim") for row in self.rows() if id_ in _parents(row)}

    def part(self, ids: Container[str]) -> Self:
        """Return the rows that are of some of its sessions or folders, with what they need."""
        return self._with_parents(row for row in self.rows() if any(id_ in ids for id_ in _parents(row)))

    def rest(self, ids: Container[str]) -> Self:
        """Return the rows that are not in that part, with what they need."""
        return self._with_parents(row for row in self.rows() if not any(id_ in ids for id_ in _parents(row)))

    def only(self, wanted: Callable[[Kind, Row], bool]) -> Self:
        """Return the rows that are wanted, with what they need."""
        return self._with_parents(row for kind in KINDS for row in getattr(self, kind) if wanted(kind, row))

    def alone(self, row: Row) -> Self:
        """Return one record of the batch with what it needs: an interaction brings its session along."""
        return self._with_parents([row])

    def halves(self) -> tuple[Self, ...]:
        """Return the batch in two parts, each with the parents of what it holds; none if it can't be parted."""
        rows = sorted(self.stated() or self.rows(), key=lambda row: _parents(row)[0])  # a session stays in one part
        if len(rows) < 2:  # noqa: PLR2004
            return ()
        middle = len(rows) // 2
        return self._with_parents(rows[:middle]), self._with_parents(rows[middle:])

    def to_json(self) -> Row:
        told = {
            "project": self.project,
            "folders": self.folders,
            "sessions": self.sessions,
            "participants": self.participants,
            "interactions": self.interactions,
            "return_parents": self.return_parents,
        }
        if self.feedback:
            told["feedback"] = self.feedback
        if self.late:
            told["late"] = True
        if self.dry_run:
            told["dry_run"] = True
        return told

    def _with_parents(self, rows: Iterable[Row]) -> Self:
        chosen = {id(row) for row in rows}
        folders, sessions, participants, interactions, feedback = (
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
        )


def _parents(row: Row) -> list[str]:
    """Return the ids of the sessions and folders that a row is of; the first is what it belongs to most closely."""
    own = [row["session_id"]] if "session_id" in row else [row["id"]]
    if folder := row.get("folder_id"):
        own.append(folder)
    return own + [session["id"] for session in row.get("sessions", ())]


def _with_stubs(known: Sequence[Row], chosen: Sequence[Row], children: Sequence[Row], name: str) -> list[Row]:
    """Return the chosen of the known parents, and rows that only make sure of the children's others, in their order.

    Several callers may speak of one parent: each child needs one that is claimed as it is itself, and who came first
    stays first.
    """
    needed = {(child[name], child.get("claim")): child.get("created_at") for child in children if child.get(name)}
    for row in chosen:
        needed.pop((row["id"], row.get("claim")), None)
    stubs: dict[tuple[str, str | None], Row] = {}
    for (id_, claim), created_at in needed.items():
        stubs[id_, claim] = {"id": id_, "created_at": created_at, "implicit": True}
        if claim is not None:
            stubs[id_, claim]["claim"] = claim
        for row in known:
            if row["id"] == id_:
                fields = _OF_A_NUMBERED_STUB if row.get("numbering") == "named" else _OF_A_STUB
                stubs[id_, claim] |= {field: row[field] for field in fields if field in row}
    those = {id(row) for row in chosen}
    ordered = [row if id(row) in those else stubs.pop((row["id"], row.get("claim")), None) for row in known]
    return [row for row in ordered if row] + list(stubs.values())


class Receipt(BaseModel):
    """What became of one record.

    `fields` are those filled, or those that contradict what is stored; `differs` those that contradict it although
    others were filled. `places` are those of the records of the call that state one key, where several do. `session` or
    `folder` is the parent as it is now, where that was asked for; `planned` tells of each session of a folder's plan:
    `{session_id, session_number, receipt, …}`.
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
    def kept(self) -> bool:
        return self.receipt in KEPT


@dataclass(frozen=True, slots=True)
class BatchReceipts:
    """The receipts of a batch, each list in the order of the batch's own."""

    sessions: list[Receipt] = field(default_factory=list)
    interactions: list[Receipt] = field(default_factory=list)
    folders: list[Receipt] = field(default_factory=list)
    participants: list[Receipt] = field(default_factory=list)
    feedback: list[Receipt] = field(default_factory=list)

    @classmethod
    def all(cls, receipt: Receipt, batch: Batch) -> Self:
        """Return the same receipt for each record of a batch."""
        return cls(**{kind: [receipt] * len(getattr(batch, kind)) for kind in KINDS})

    def split(self, batches: Sequence[Batch]) -> Iterator[Self]:
        """Yield the receipts of each of the batches that were merged."""
        left = {kind: iter(getattr(self, kind)) for kind in KINDS}
        for batch in batches:
            yield type(self)(**{kind: list(islice(left[kind], len(getattr(batch, kind)))) for kind in KINDS})

    def in_order(self, kinds: Iterable[Kind]) -> list[Receipt]:
        """Return the receipts of records of these kinds, which stand in the batch in this order."""
        left: dict[Kind, Iterator[Receipt]] = {kind: iter(getattr(self, kind)) for kind in KINDS}
        return [next(left[kind]) for kind in kinds]

    def __iter__(self) -> Iterator[Receipt]:
        """Yield them in the order of `Batch.rows`."""
        for kind in KINDS:
            yield from getattr(self, kind)


def receipt_of(error: Invalid | Conflict) -> Receipt:
    """Return the receipt of a record that the store refused with an error."""
    if isinstance(error, Conflict):
        return Receipt(
            receipt="conflict",
            reason=str(error),
            constraint=error.constraint,
            columns=error.columns,
            attempted=error.attempted,
        )
    return Receipt(receipt="rejected", reason=str(error), fields=(error.field,) if error.field else ())
