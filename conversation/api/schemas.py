"""What the API answers, for its contract (/openapi.json); the tests hold the answers against it."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel

from conversation.problem_codes import CODES
from logging_store.batches import Outcome
from logging_store.records.models import ParticipantState, SessionStatus

Stored = Literal["created", "filled", "duplicate"]
Kept = Literal["created", "filled", "duplicate", "spooled"]


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @classmethod
    def arrange(cls, row: Mapping[str, Any]) -> dict[str, Any]:
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
    failed_count: Annotated[int, Field(description="Interactions in the status failed")]
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
    session: Annotated[SessionView | None, Field(description="As it is now; not for who opens it from a browser")] = (
        None
    )
    session_token: Annotated[str | None, Field(description="What appends to it from a browser")] = None
    session_token_expires_at: datetime | None = None
    participants: Annotated[list[ParticipantReceipt], Field(description="Of those that the call states")] = []


class SessionSpooled(Answer):
    """The store is away: the session is kept on the service's disk and delivered later."""

    session_id: UUID
    key: str | None
    receipt: Literal["spooled"]
    fields: list[str]
    session_token: Annotated[str | None, Field(description="What appends to it from a browser")] = None
    session_token_expires_at: datetime | None = None
    participants: Annotated[list[ParticipantReceipt], Field(description="Of those that the call states")] = []


class SessionNamed(Answer):
    """`session_id` is spelled as it was given."""

    session_id: str
    receipt: Kept
    session_token: Annotated[str | None, Field(description="What appends to it from a browser")] = None
    session_token_expires_at: datetime | None = None


class ParticipantKept(Answer):
    """`fields` are those that this call filled."""

    session_id: UUID
    key: str | None
    participant: str
    receipt: Kept
    fields: list[str]


class ParticipantView(Answer):
    """`state` is null while nobody has said it, as of one who is only known from an interaction that names them."""

    participant: str
    role: str | None
    state: ParticipantState | None
    created_at: datetime
    spooled: bool


class Participants(Answer):
    session_id: UUID
    key: str | None
    participants: list[ParticipantView]


class Matching(Answer):
    """How many sessions the filters let through. Not `complete`: there may be more."""

    sessions: int
    complete: bool


class SessionPage(Answer):
    """A page may be short, or empty: `next` goes on, and is null at the end."""

    sessions: list[SessionView]
    next: str | None
    matching: Annotated[Matching | None, Field(description="Only with count=true")] = None


class Erased(Answer):
    """A report: what went, or would go. `turnlog verify-report` checks its signature."""

    project: str
    session_id: UUID
    dry_run: bool
    erased_at: Annotated[datetime | None, Field(description="Null if nothing was erased yet: in a dry run")]
    interactions: int
    participants: int
    feedback: Annotated[int, Field(description="What was said of these interactions")]
    spooled: Annotated[int, Field(description="Records that waited on this machine's disk")]
    dead_letters: Annotated[int, Field(description="Records on this machine's disk that the store had refused")]
    unreadable_files: Annotated[int, Field(description="Files of this machine's spool that nobody can look into")]
    proof: Annotated[str, Field(description="SQL that counts what is left in the database: 0")]
    signature: str


class UserErased(Answer):
    """A report: what went, or would go. `turnlog verify-report` checks its signature."""

    project: str
    user_id: str
    dry_run: bool
    erased_at: Annotated[datetime | None, Field(description="What was received before doesn't come back, either")]
    sessions: int
    interactions: Annotated[int, Field(description="Those of these sessions")]
    participants: Annotated[int, Field(description="Those of these sessions")]
    feedback: Annotated[int, Field(description="Of these sessions, and what the user said of others' interactions")]
    participations: Annotated[int, Field(description="In other people's sessions")]
    turns: Annotated[int, Field(description="Interactions of other people's sessions whose texts are gone")]
    folders: Annotated[int, Field(description="Cleared of name, key, user and metadata")]
    spooled: Annotated[int, Field(description="Records that waited on this machine's disk")]
    dead_letters: Annotated[int, Field(description="Records on this machine's disk that the store had refused")]
    unreadable_files: Annotated[int, Field(description="Files of this machine's spool that nobody can look into")]
    proof: Annotated[str, Field(description="SQL that counts what is left in the database: 0")]
    signature: str


class ExportedLines(RootModel[str]):
    """JSON lines, one a record, as `turnlog export` writes them and `turnlog import` reads them."""


class Problem(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(description="The path of a page that explains the problem")]
    title: str
    status: int
    code: Annotated[str, Field(description="What to branch on", json_schema_extra={"enum": list(CODES)})]
    detail: str
    request_id: Annotated[str, Field(description="Also in the header X-Request-Id, and in the service's log")]


class FieldProblem(Answer):
    path: str
    detail: str


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
