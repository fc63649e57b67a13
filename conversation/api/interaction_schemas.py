"""What the API answers about interactions."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel

from conversation.api.schemas import Answer, FieldProblem, Kept, Stored
from logging_store.batches import Outcome
from logging_store.records.models import InteractionStatus

Would = Literal["create", "fill", "nothing", "conflict", "reject"]


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
    def arrange(cls, row: Mapping[str, Any]) -> dict[str, Any]:
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


class _Told(BaseModel):
    """What is told of one item; `fields` says which are filled, or what is wrong with which."""

    model_config = ConfigDict(extra="allow")

    fields: list[str] | list[FieldProblem]
    session_id: UUID | None = None
    session_key: str | None = None
    interaction_id: UUID | None = None
    interaction_key: str | None = None
    key: Annotated[dict[str, str | int | bool | float], Field(description="As it was sent")] = {}
    held_by: Annotated[UUID | None, Field(description="The stored record that this one contradicts")] = None
    differs: Annotated[list[FieldProblem], Field(description="What was not taken, although other fields were")] = []
    reason: str | None = None
    indexes: Annotated[list[int], Field(description="The items that state this key, where several do")] = []


class BatchReceipt(_Told):
    index: int
    receipt: Outcome


class BatchKept(Answer):
    receipts: list[BatchReceipt]
    counts: dict[Outcome, int]


class InteractionPlan(_Told):
    """What logging this would do. An id is null that would only be made then."""

    would: Would


class BatchPlanItem(InteractionPlan):
    index: int


class BatchPlan(Answer):
    """What writing this batch would do; nothing was written."""

    plan: list[BatchPlanItem]
    counts: dict[Would, int]


class BatchAnswered(RootModel[BatchKept | BatchPlan]):
    """The receipts, or with `dry_run=true` the plan."""


class InteractionAnswered(RootModel[InteractionKept | InteractionPlan]):
    """The receipt, or with `dry_run=true` the plan."""
