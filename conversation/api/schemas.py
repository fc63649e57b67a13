"""Response models that several resources share, for the contract; tests validate the responses against it."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel

from conversation.refusals.codes import CODES
from logging_store.batches import Outcome
from logging_store.records.models import ParticipantState, SessionStatus

Stored = Literal["created", "filled", "duplicate", "revised"]
Acknowledged = Literal["created", "filled", "duplicate", "revised", "spooled"]
Altered = Annotated[
    list[str],
    Field(
        default_factory=list,
        description="The paths of values that were altered so that they can be stored; left out if none was",
    ),
]


class ResponseModel(BaseModel):
    """Base of the response models. Its subclasses describe responses; views build plain dicts with `arrange`."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def arrange(cls, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a store's row with its keys in the model's order; jsonb sorts them by length."""
        names = (field.alias or name for name, field in cls.model_fields.items())
        return {name: row[name] for name in names}


class SessionView(ResponseModel):
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
    started_at: Annotated[datetime | None, Field(description="As sent; else when its earliest turn was said")]
    ended_at: datetime | None
    created_at: datetime
    erased_at: datetime | None
    text_expired_at: Annotated[
        datetime | None, Field(description="When its title and the texts of its interactions expired")
    ]
    interaction_count: int
    failed_count: Annotated[int, Field(description="Interactions in the status failed")]
    last_activity_at: datetime | None

    @classmethod
    def arrange(cls, row: Mapping[str, Any]) -> dict[str, Any]:
        return super().arrange({**row, "started_at": row["started_at"] or row["earliest_turn_at"]})


class ParticipantReceipt(ResponseModel):
    """The outcome for a participant. `fields`: those that were filled, or that contradict what is stored."""

    participant: str
    receipt: Outcome
    fields: list[str]
    reason: str | None


class SessionStored(ResponseModel):
    """`fields` are those that this call filled."""

    session_id: UUID
    key: str | None
    receipt: Stored
    fields: list[str]
    altered: Altered
    session: Annotated[SessionView | None, Field(description="As it is now; left out for callers in browsers")] = None
    session_token: Annotated[str | None, Field(description="Authorises a browser to append to this session")] = None
    session_token_expires_at: datetime | None = None
    participants: Annotated[list[ParticipantReceipt], Field(description="One per participant in the call")] = []


class SessionSpooled(ResponseModel):
    """The store is unavailable: the session is in the spool on the service's disk and is delivered later."""

    session_id: UUID
    key: str | None
    receipt: Literal["spooled"]
    fields: list[str]
    altered: Altered
    session_token: Annotated[str | None, Field(description="Authorises a browser to append to this session")] = None
    session_token_expires_at: datetime | None = None
    participants: Annotated[list[ParticipantReceipt], Field(description="One per participant in the call")] = []


class ParticipantResult(ResponseModel):
    """`fields` are those that this call filled."""

    session_id: UUID
    key: str | None
    participant: str
    receipt: Acknowledged
    fields: list[str]


class ParticipantView(ResponseModel):
    """`state` is null until a call sets it, as for participants that only an interaction names."""

    participant: str
    role: str | None
    state: ParticipantState | None
    created_at: datetime
    spooled: bool


class Participants(ResponseModel):
    session_id: UUID
    key: str | None
    participants: list[ParticipantView]


class Matching(ResponseModel):
    """How many sessions match the filters. If not `complete`, there may be more."""

    sessions: int
    complete: bool


class SessionPage(ResponseModel):
    """A page may be short or empty before the end; `next` is null at the end."""

    sessions: list[SessionView]
    next: str | None
    matching: Annotated[Matching | None, Field(description="Only with count=true")] = None


class Erased(ResponseModel):
    """A report of what was erased, or would be. `turnlog verify-report` checks its signature."""

    project: str
    session_id: UUID
    dry_run: bool
    erased_at: Annotated[datetime | None, Field(description="Null in a dry run")]
    interactions: int
    participants: int
    feedback: Annotated[int, Field(description="Feedback on these interactions")]
    spooled: Annotated[int, Field(description="Records in this machine's spool")]
    dead_letters: Annotated[int, Field(description="Records that the store had refused, on this machine's disk")]
    unreadable_files: Annotated[int, Field(description="Spool files of this machine that can't be read")]
    proof: Annotated[str, Field(description="SQL that counts what is left in the database: 0")]
    signature: str


class InteractionErased(ResponseModel):
    """A report of what was erased, or would be. `turnlog verify-report` checks its signature."""

    project: str
    session_id: UUID
    interaction_id: UUID
    dry_run: bool
    erased_at: Annotated[datetime | None, Field(description="Null in a dry run, unless it was erased before")]
    interactions: Annotated[
        int, Field(description="1, or 0 if the database has nothing of it, or it was erased before")
    ]
    participants: Annotated[int, Field(description="Those whom only this interaction named")]
    feedback: Annotated[int, Field(description="Feedback on it")]
    spooled: Annotated[int, Field(description="Records in this machine's spool")]
    dead_letters: Annotated[int, Field(description="Records that the store had refused, on this machine's disk")]
    unreadable_files: Annotated[int, Field(description="Spool files of this machine that can't be read")]
    proof: Annotated[str, Field(description="SQL that counts what is left in the database: 0")]
    signature: str


class UserErased(ResponseModel):
    """A report of what was erased, or would be. `turnlog verify-report` checks its signature."""

    project: str
    user_id: str
    merged_into: Annotated[str | None, Field(description="Who owns what this user had, and isn't erased; else null")]
    dry_run: bool
    erased_at: Annotated[datetime | None, Field(description="Late records from before this time are refused")]
    sessions: int
    interactions: Annotated[int, Field(description="Those of these sessions")]
    participants: Annotated[int, Field(description="Those of these sessions")]
    feedback: Annotated[int, Field(description="On these sessions, and the user's on other people's interactions")]
    participations: Annotated[int, Field(description="In other people's sessions")]
    turns: Annotated[int, Field(description="Interactions in other people's sessions whose texts were erased")]
    folders: Annotated[int, Field(description="Cleared of name, key, user and metadata")]
    spooled: Annotated[int, Field(description="Records in this machine's spool")]
    dead_letters: Annotated[int, Field(description="Records that the store had refused, on this machine's disk")]
    unreadable_files: Annotated[int, Field(description="Spool files of this machine that can't be read")]
    proof: Annotated[str, Field(description="SQL that counts what is left in the database: 0")]
    signature: str


class UserMerged(ResponseModel):
    """What became the user's, or would. A repeated call moves what an interrupted one left."""

    project: str
    user_id: Annotated[str, Field(description="The guest")]
    into: str
    dry_run: bool
    merged_at: Annotated[
        datetime | None, Field(description="When the guest was first merged; null in a dry run before")
    ]
    sessions: Annotated[int, Field(description="Those of the guest")]
    participations: Annotated[int, Field(description="Sessions of anybody in which the guest took part")]
    turns: Annotated[int, Field(description="Interactions that named the guest as participant")]
    feedback: Annotated[int, Field(description="Feedback that the guest gave")]
    folders: Annotated[int, Field(description="Those of the guest")]


class ExportedLines(RootModel[str]):
    """JSON lines, one per record, in the format of `turnlog export` and `turnlog import`."""


class Problem(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(description="The path of a page that explains the problem")]
    title: str
    status: int
    code: Annotated[str, Field(description="Stable; branch on it", json_schema_extra={"enum": list(CODES)})]
    detail: str
    request_id: Annotated[str, Field(description="Also in the header X-Request-Id, and in the service's log")]


class FieldProblem(ResponseModel):
    path: str
    detail: str


class SpoolBacklog(ResponseModel):
    """The spool's backlog. `oldest_s`: the age of its oldest record in seconds."""

    records: int
    bytes: int
    oldest_s: float


class Readiness(ResponseModel):
    """Writable: writes are stored. Degraded: they go to the spool. Full: they are refused with 503."""

    status: Literal["writable", "degraded", "full"]
    store: str
    schema_version: str | None = None
    reason: str | None = None
    spool: SpoolBacklog
    dead_letters: int | None
    of_other_databases: int


class Liveness(ResponseModel):
    status: Literal["alive"]
