"""What the API answers, for its contract (/openapi.json); the tests hold the answers against it."""

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from logging_store.batches import Outcome
from logging_store.records import InteractionStatus, ParticipantState, SessionStatus

Stored = Literal["created", "filled", "duplicate"]
Kept = Literal["created", "filled", "duplicate", "spooled"]


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @classmethod
    def arrange(cls, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row of the store in the order that people read it in; jsonb sorts its keys by length."""
        names = (field.alias or name for name, field in cls.model_fields.items())
        return {name: row[name] for name in names}


class SessionView(Answer):
    """A session, with counts derived from its interactions."""

    session_id: UUID
    key: str | None
    user_id: str | None
    title: str | None
    folder_id: UUID | None
    session_number: int | None
    scheduled_on: date | None
    status: SessionStatus
    implicit: bool
    tags: list[str]
    metadata: dict[str, Any]
    started_at: datetime | None
    ended_at: datetime | None
    created_at: datetime
    erased_at: datetime | None
    interaction_count: int
    last_activity_at: datetime | None


class ParticipantReceipt(Answer):
    """What became of a participant; `fields` are those filled, or those that contradict what is stored."""

    participant: str
    receipt: Outcome
    fields: list[str]
    reason: str | None


class SessionKept(Answer):
    """`fields` are those that this call filled."""

    session_id: UUID
    key: str | None
    receipt: Stored
    fields: list[str]
    session: SessionView
    participants: Annotated[list[ParticipantReceipt], Field(description="Of those that the call states")] = []


class SessionSpooled(Answer):
    """The store is away: the session is kept on the service's disk and delivered later."""

    session_id: UUID
    key: str | None
    receipt: Literal["spooled"]
    fields: list[str]
    participants: Annotated[list[ParticipantReceipt], Field(description="Of those that the call states")] = []


class SessionNamed(Answer):
    """`session_id` is spelled as it was given."""

    session_id: str
    receipt: Kept


class ParticipantKept(Answer):
    """`fields` are those that this call filled."""

    session_id: UUID
    key: str | None
    participant: str
    receipt: Kept
    fields: list[str]


class ParticipantView(Answer):
    """`joined` is also the state of one who is only known from an interaction that names them."""

    participant: str
    role: str | None
    state: ParticipantState
    created_at: datetime
    spooled: bool

    @classmethod
    def arrange(cls, row: dict[str, Any]) -> dict[str, Any]:
        return super().arrange({"spooled": False} | row)


class Participants(Answer):
    session_id: UUID
    key: str | None
    participants: list[ParticipantView]


class PlanView(Answer):
    sessions_per_week: int
    total_weeks: int
    starts_on: date | None


class FolderStatistics(Answer):
    """Derived from the folder's sessions, so always right.

    `planned` are those of the plan; `opened` those that aren't locked any more, or that somebody logged under; `closed`
    are among them.
    """

    planned: int
    sessions: int
    opened: int
    closed: int
    interactions: int
    last_activity_at: datetime | None


class FolderView(Answer):
    folder_id: UUID
    key: str | None
    name: str | None
    user_id: str | None
    plan: PlanView | None
    metadata: dict[str, Any]
    implicit: bool
    created_at: datetime
    statistics: FolderStatistics

    @classmethod
    def arrange(cls, row: dict[str, Any]) -> dict[str, Any]:
        return super().arrange(row) | {
            "plan": PlanView.arrange(row["plan"]) if row["plan"] else None,
            "statistics": FolderStatistics.arrange(row["statistics"]),
        }


class FolderAnswer(FolderView):
    sessions: list[SessionView]
    next: str | None


class FolderPage(Answer):
    folders: list[FolderView]
    next: str | None


class PlannedSession(Answer):
    """What became of a session of the plan; `held_by` is the session that has its number instead."""

    session_number: int
    session_id: UUID
    receipt: Outcome
    fields: list[str]
    reason: str | None
    held_by: UUID | None

    @classmethod
    def arrange(cls, row: dict[str, Any]) -> dict[str, Any]:
        return super().arrange({"fields": [], "reason": None, "held_by": None} | row)


class FolderKept(Answer):
    """`fields` are those that this call filled; `sessions` those of the plan that this call states."""

    folder_id: UUID
    key: str | None
    receipt: Stored
    fields: list[str]
    folder: FolderView
    sessions: list[PlannedSession]


class FolderSpooled(Answer):
    """The store is away: the folder is kept on the service's disk and delivered later, with its plan's sessions."""

    folder_id: UUID
    key: str | None
    receipt: Literal["spooled"]
    fields: list[str]
    sessions: list[PlannedSession]


class SessionPage(Answer):
    sessions: list[SessionView]
    next: str | None


class Erased(Answer):
    session_id: UUID
    erased_at: datetime
    interactions: int


class InteractionView(Answer):
    interaction_id: UUID
    key: str | None
    session_id: UUID
    prompt: str | list[dict[str, Any]] | None
    response: str | list[dict[str, Any]] | None
    model: str | None
    provider: str | None
    status: InteractionStatus
    error: str | None
    finish_reason: str | None
    started_at: datetime | None
    completed_at: datetime | None
    latency_ms: float | None
    time_to_first_token_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    participant: str | None
    reply_to: UUID | None
    turn: int | None
    tags: list[str]
    metadata: dict[str, Any]
    created_at: datetime
    spooled: bool

    @classmethod
    def arrange(cls, row: dict[str, Any]) -> dict[str, Any]:
        return super().arrange({"spooled": False} | row)


class Transcript(Answer):
    """`complete` is false while the store is away: then only what waits on the service's disk is shown."""

    session_id: UUID
    key: str | None
    interactions: list[InteractionView]
    complete: bool
    next: str | None


class TurnRange(Answer):
    """Turns that no interaction has; both ends are part of it."""

    first: Annotated[int, Field(alias="from")]
    last: Annotated[int, Field(alias="to")]


class DoubledTurn(Answer):
    turn: int
    interactions: int


class Gaps(Answer):
    """What the caller's own turn counter lacks between the lowest and the highest turn seen, `first` and `last`.

    What is missing before `first` or after `last` can't be known; a session that begins at turn 5 says so by `first`.
    `gap_count` and `doubled_count` count all of those of which the lists may hold only the lowest.
    """

    session_id: UUID
    key: str | None
    first: int | None
    last: int | None
    counted: Annotated[int, Field(description="Interactions that have a turn")]
    missing: Annotated[int, Field(description="Turns between first and last that no interaction has")]
    gap_count: int
    gaps: list[TurnRange]
    doubled_count: int
    doubled: Annotated[list[DoubledTurn], Field(description="Turns that several interactions have")]

    @classmethod
    def arrange(cls, row: dict[str, Any]) -> dict[str, Any]:
        return super().arrange(row) | {
            "gaps": [TurnRange.arrange(gap) for gap in row["gaps"]],
            "doubled": [DoubledTurn.arrange(turn) for turn in row["doubled"]],
        }


class InteractionKept(Answer):
    """`fields` are those that this call filled."""

    session_id: UUID
    session_key: str | None
    interaction_id: UUID
    interaction_key: str | None
    receipt: Stored
    fields: list[str]


class InteractionSpooled(Answer):
    """The store is away: the record is kept on the service's disk and delivered later."""

    session_id: UUID
    session_key: str | None
    interaction_id: UUID
    interaction_key: str | None
    receipt: Literal["spooled"]
    fields: list[str]


class InteractionNamed(Answer):
    """The ids are spelled as they were given."""

    session_id: str
    interaction_id: str
    receipt: Kept


class Problem(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str


class FieldProblem(Answer):
    path: str
    detail: str


class BatchReceipt(BaseModel):
    """What became of one item; `fields` says which were filled, or what is wrong with which."""

    model_config = ConfigDict(extra="allow")

    index: int
    receipt: Outcome
    fields: list[str] | list[FieldProblem]
    session_id: UUID | None = None
    session_key: str | None = None
    interaction_id: UUID | None = None
    interaction_key: str | None = None
    reason: str | None = None


class BatchKept(Answer):
    receipts: list[BatchReceipt]
    counts: dict[Outcome, int]


class Waiting(Answer):
    """What waits on the service's disk for the store to be back. `oldest_s`: seconds."""

    records: int
    bytes: int
    oldest_s: float


class Readiness(Answer):
    """Writable: a write is stored. Degraded: it is kept on the service's disk. Full: it is refused with 503."""

    status: Literal["writable", "degraded", "full"]
    store: str
    schema_version: str | None = None
    reason: str | None = None
    spool: Waiting
    dead_letters: int | None


class Liveness(Answer):
    status: Literal["alive"]
