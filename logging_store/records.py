"""What callers state, what a store is handed, and what it answers.

`Session` and `Interaction` are facts as a caller states them: every field but the identity may be missing, and a
later record of the same identity may fill it. `Batch` is what a store writes in one transaction. A `Receipt` tells
the truth about one record.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from logging_store import shapes
from logging_store.errors import Conflict, Invalid
from logging_store.values import Amount, Content, Count, Identifier, JsonObject, Name, Tags, Text, Time

Outcome = Literal["created", "filled", "duplicate", "conflict", "rejected", "spooled"]
SessionStatus = Literal["locked", "open", "closed"]
InteractionStatus = Literal["pending", "completed", "failed", "abandoned"]

#: Receipts that mean: what the record says is in the store.
STORED: frozenset[Outcome] = frozenset({"created", "filled", "duplicate"})
#: Receipts that acknowledge: what the record says is in the store, or on this machine's disk and will be.
KEPT: frozenset[Outcome] = STORED | {"spooled"}

#: Statements about one interaction in one batch. The store weighs them one after another, each in a round that goes
#: through the whole batch: a thousand take seconds.
MAX_REPEATS = 100


class Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    def facts(self, *without: str) -> dict[str, Any]:
        """Return the fields that were stated, as JSON values."""
        return self.model_dump(mode="json", exclude_none=True, exclude=set(without))


class Session(Record):
    """A conversation. Left out, `session_id` is a new UUID."""

    session_id: Identifier | None = None
    user_id: Name | None = None
    title: Annotated[Text, Field(max_length=1000)] | None = None
    tags: Tags | None = None
    metadata: JsonObject | None = None
    started_at: Time | None = None
    ended_at: Time | None = None


def _some_of(*fields: str) -> dict[str, Any]:
    """Say in JSON Schema that one of the fields at least is stated."""
    return {"anyOf": [{"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in fields]}


class Interaction(Record):
    """One prompt and its response. Without a response it is pending; logging it again with one completes it."""

    model_config = ConfigDict(json_schema_extra=_some_of("prompt", "response", "error", "status"))

    session_id: Identifier | None = None
    interaction_id: Identifier | None = None
    prompt: Content | None = None
    response: Content | None = None
    model: Name | None = None
    provider: Name | None = None
    status: InteractionStatus | None = None
    error: Text | None = None
    finish_reason: Name | None = None
    started_at: Time | None = None
    completed_at: Time | None = None
    latency_ms: Amount | None = None
    time_to_first_token_ms: Amount | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cost_usd: Amount | None = None
    participant: Name | None = None
    reply_to: Identifier | None = None
    turn: Count | None = None
    tags: Tags | None = None
    metadata: JsonObject | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.prompt is None and self.response is None and self.error is None and self.status is None:
            raise PydanticCustomError("empty", "An interaction needs a prompt, a response, an error or a status")
        return self


class SessionChanges(Record):
    """What people edit. The value given replaces the one stored; null empties it."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    title: Annotated[Text, Field(max_length=1000)] | None = None
    tags: Tags | None = None
    status: Annotated[SessionStatus | None, Field(json_schema_extra=shapes.never_null)] = None
    metadata: JsonObject | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("empty", "Name at least one of title, tags, status, metadata")
        if "status" in self.model_fields_set and self.status is None:
            raise PydanticCustomError("status", "A session always has a status", {"path": ("status",)})
        return self


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one project that are written together or not at all.

    `sessions` and `interactions` are rows as `turnlog_write_v1` takes them: JSON values under the columns' names.
    """

    project: str
    sessions: Sequence[dict[str, Any]] = ()
    interactions: Sequence[dict[str, Any]] = ()
    return_sessions: bool = False

    @property
    def size(self) -> int:
        return len(self.sessions) + len(self.interactions)

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
            any(batch.return_sessions for batch in batches),
        )

    @property
    def stated(self) -> int:
        """How many records callers stated; a parent that only came along is none."""
        return len(self.interactions) + sum(not row.get("implicit") for row in self.sessions)

    def session_ids(self) -> set[str]:
        """Return the ids of all sessions that the records are of."""
        return {row["id"] for row in self.sessions} | {row["session_id"] for row in self.interactions}

    def interaction_ids(self) -> list[tuple[str, str]]:
        """Return session and id of each interaction."""
        return [(row["session_id"], row["id"]) for row in self.interactions]

    def of_sessions(self, ids: Container[str]) -> Self:
        """Return the part of the batch that is of some of its sessions."""
        return replace(
            self,
            sessions=[row for row in self.sessions if row["id"] in ids],
            interactions=[row for row in self.interactions if row["session_id"] in ids],
        )

    def alone(self, row: dict[str, Any]) -> Self:
        """Return one record of the batch with what it needs: an interaction brings its session along."""
        if any(row is session for session in self.sessions):
            return replace(self, sessions=[row], interactions=())
        parents = [session for session in self.sessions if session["id"] == row["session_id"]]
        return replace(self, sessions=parents, interactions=[row])

    def halves(self) -> tuple[Self, ...]:
        """Return the batch in two parts, each with the parents of what it holds; none if it can't be parted."""
        ids = sorted(self.session_ids())
        if len(ids) > 1:
            middle = len(ids) // 2
            return self.of_sessions(set(ids[:middle])), self.of_sessions(set(ids[middle:]))
        if len(self.interactions) > 1:
            middle = len(self.interactions) // 2
            return (
                replace(self, interactions=self.interactions[:middle]),
                replace(self, interactions=self.interactions[middle:]),
            )
        if len(self.sessions) > 1:  # several statements about one session
            return replace(self, sessions=self.sessions[:1], interactions=()), replace(self, sessions=self.sessions[1:])
        return ()

    def to_json(self) -> dict[str, Any]:
        return {
            "project": self.project,
            "sessions": self.sessions,
            "interactions": self.interactions,
            "return_sessions": self.return_sessions,
        }


class Receipt(BaseModel):
    """What became of one record. `fields` are those filled, or those that contradict what is stored."""

    model_config = ConfigDict(frozen=True)

    receipt: Outcome
    fields: tuple[str, ...] = ()
    reason: str | None = None
    constraint: str | None = None
    columns: tuple[str, ...] = ()
    attempted: dict[str, str | None] = Field(default_factory=dict)
    held_by: str | None = None
    session: dict[str, Any] | None = None

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

    def split(self, batches: Sequence[Batch]) -> Iterator[Self]:
        """Yield the receipts of each of the batches that were merged."""
        sessions, interactions = iter(self.sessions), iter(self.interactions)
        for batch in batches:
            yield type(self)(
                list(islice(sessions, len(batch.sessions))), list(islice(interactions, len(batch.interactions)))
            )

    def __iter__(self) -> Iterator[Receipt]:
        yield from self.sessions
        yield from self.interactions


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
