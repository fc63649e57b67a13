"""What callers state. Any field but the identity may be missing; a later record of the same identity may fill it."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from logging_store.records import json_schema
from logging_store.records.json_values import WHOLE, Content, JsonObject
from logging_store.records.values import (
    MAX_FEEDBACK,
    Amount,
    CompositeKey,
    Count,
    Date,
    FeedbackValue,
    Identifier,
    Name,
    Tags,
    Text,
    Time,
)

SessionStatus = Literal["locked", "open", "closed"]
InteractionStatus = Literal["pending", "completed", "failed", "abandoned"]
ParticipantState = Literal["reserved", "confirmed", "joined", "left"]

#: Participants stated with one session.
MAX_PARTICIPANTS = 100


def _stated(*fields: str) -> dict[str, Any]:
    """Say in JSON Schema that the fields are stated."""
    return {"required": list(fields), "properties": {name: {"not": {"type": "null"}} for name in fields}}


class Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    def json_fields(self, *without: str) -> dict[str, Any]:
        """Return the fields that were stated, as JSON values."""
        return self.model_dump(mode="json", exclude_none=True, exclude=set(without))

    def python_fields(self) -> dict[str, Any]:
        """Return the fields that were stated, as they are: a time is a datetime."""
        mine = self.__dict__
        return {name: mine[name] for name in self.__pydantic_fields_set__ if mine[name] is not None}


Title = Annotated[Text, Field(max_length=1000)]
SessionNumber = Annotated[int, Field(ge=1, le=1_000_000, description="Within its folder."), WHOLE]


class Plan(Record):
    """So many numbered sessions a week for so many weeks; dated where `starts_on` is known. It may get longer."""

    # all sessions of a plan are written in one transaction: five years, twice a day
    sessions_per_week: Annotated[int, Field(ge=1, le=14), WHOLE]
    total_weeks: Annotated[int, Field(ge=1, le=260), WHOLE]
    starts_on: Date | None = None


class Folder(Record):
    """Sessions that belong together and are numbered. Left out, `folder_id` is a new UUID."""

    folder_id: Identifier | None = None
    name: Title | None = None
    user_id: Name | None = None
    plan: Plan | None = None
    metadata: JsonObject | None = None


class FolderSession(Record):
    """A session of a folder, which is known. Left out, `session_number` is the next free one.

    Left out, `session_id` derives from folder and number if the number is stated, else it is a new UUID.
    """

    session_id: Identifier | None = None
    user_id: Name | None = None
    title: Title | None = None
    session_number: SessionNumber | None = None
    scheduled_on: Date | None = None
    status: SessionStatus | None = None
    tags: Tags | None = None
    metadata: JsonObject | None = None
    started_at: Time | None = None
    ended_at: Time | None = None


class Session(FolderSession):
    """A conversation. Left out, `session_id` is a new UUID, or derives from folder and number where both are stated."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"not": _stated("session_number")}, _stated("folder_id")]})

    folder_id: Identifier | None = None

    @model_validator(mode="after")
    def _counts_within_a_folder(self) -> Self:
        if self.session_number is not None and self.folder_id is None:
            raise PydanticCustomError(
                "folder", "A number counts within a folder; say which", {"path": ("session_number",)}
            )
        return self


class ParticipantDetails(Record):
    """What one of a session's participants is and does. The state only moves forward."""

    role: Name | None = None
    state: ParticipantState | None = None


class ParticipantInput(ParticipantDetails):
    """Somebody who takes part in a session, which is known."""

    participant: Identifier


class Participant(ParticipantInput):
    """Somebody who takes part in a session."""

    session_id: Identifier


class Interaction(Record):
    """One prompt and its response. Without a response it is pending; logging it again with one completes it."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [_stated(name) for name in ("prompt", "response", "error", "status")],
            "not": _stated("key", "interaction_id"),
        }
    )

    session_id: Identifier | None = None
    interaction_id: Identifier | None = None
    key: CompositeKey | None = None
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
        if self.key is not None and self.interaction_id is not None:
            raise PydanticCustomError(
                "two_names", "The id derives from the key; state one of key and interaction_id", {"path": ("key",)}
            )
        return self


class FeedbackInput(Record):
    """What somebody says of an interaction, which is known. Said again, the latest counts."""

    name: Annotated[Name, Field(description="What is judged; whoever says it again changes their mind")] = "rating"
    value: FeedbackValue
    comment: Annotated[Text, Field(min_length=1, max_length=MAX_FEEDBACK)] | None = None
    author: Annotated[Name | None, Field(description="Who says it; left out, it is whom the session is with")] = None
    given_at: Annotated[Time | None, Field(description="Of several the latest counts; left out, it is now")] = None


class Feedback(FeedbackInput):
    """What somebody says of an interaction. Said again, the latest counts; the interaction may arrive later."""

    session_id: Identifier
    interaction_id: Identifier


class SessionChanges(Record):
    """What people edit. The value given replaces the one stored; null empties it."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    title: Title | None = None
    tags: Tags | None = None
    status: Annotated[SessionStatus | None, Field(json_schema_extra=json_schema.never_null)] = None
    scheduled_on: Date | None = None
    metadata: JsonObject | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("empty", "Name at least one of title, tags, status, scheduled_on, metadata")
        if "status" in self.model_fields_set and self.status is None:
            raise PydanticCustomError("status", "A session always has a status", {"path": ("status",)})
        return self


class Restored(Record):
    """A record exported from another store, with the fields that only a service sets.

    For example `{"session_id": "s", "title": "Fractions", "created_at": "2026-11-21T06:30:00Z", "implicit": false}`.
    """

    created_at: Time


class RestoredFolder(Restored, Folder):
    """A folder without its plan's sessions: the export holds those that weren't erased."""

    implicit: bool = False


class RestoredSession(Restored, Session):
    implicit: bool = False


class RestoredParticipant(Restored, Participant):
    pass


class RestoredInteraction(Restored, Interaction):
    pass


class RestoredFeedback(Restored, Feedback):
    pass
