"""The records that callers send. All fields but the identity are optional: a later record of the same id fills them."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, create_model, model_validator
from pydantic_core import PydanticCustomError

from logging_store.records import json_schema
from logging_store.records.json_values import INTEGRAL, Content, Messages, Metadata
from logging_store.records.values import (
    Amount,
    Comment,
    CompositeKey,
    Count,
    Date,
    FeedbackValue,
    Identifier,
    Name,
    Person,
    Tags,
    Text,
    Time,
    Title,
)

SessionStatus = Literal["locked", "open", "closed"]
#: How a row changes an interaction that is stored already: `keep` fills empty fields unless another field contradicts,
#: `fill` fills them in any case, `report` changes nothing, `revise` keeps what contradicts as a revision. See
#: turnlog.write.
OnConflict = Literal["keep", "report", "fill", "revise"]
InteractionStatus = Literal["pending", "completed", "failed", "abandoned"]
ParticipantState = Literal["reserved", "confirmed", "joined", "left"]

#: Participants sent along with one session.
MAX_PARTICIPANTS = 100


def _requires(*fields: str) -> dict[str, Any]:
    """Return the JSON Schema of objects that have these fields, not null."""
    return {"required": list(fields), "properties": {name: {"not": {"type": "null"}} for name in fields}}


class Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    def name_sent(self, field: str) -> str:
        """Return the name under which the caller sent a field."""
        return field

    def json_fields(self, *exclude: str) -> dict[str, Any]:
        """Return the fields that aren't null as JSON values."""
        return self.model_dump(mode="json", exclude_none=True, exclude=set(exclude))

    def python_fields(self) -> dict[str, Any]:
        """Return the fields that aren't null as Python values: a time is a datetime."""
        mine = self.__dict__
        return {name: mine[name] for name in self.__pydantic_fields_set__ if mine[name] is not None}


SessionNumber = Annotated[int, Field(ge=1, le=1_000_000, description="Within its folder."), INTEGRAL]


TraceId = Annotated[str, Field(pattern="^[0-9a-f]{32}$", description="Of the call's span in OpenTelemetry.")]
SpanId = Annotated[str, Field(pattern="^[0-9a-f]{16}$", description="Of the call's span in OpenTelemetry.")]


class Plan(Record):
    """Numbered sessions per week for a number of weeks, with dates if `starts_on` is known. A plan may get longer."""

    # all sessions of a plan are written in one transaction: five years, twice a day
    sessions_per_week: Annotated[int, Field(ge=1, le=14), INTEGRAL]
    total_weeks: Annotated[int, Field(ge=1, le=260), INTEGRAL]
    starts_on: Date | None = None


class Folder(Record):
    """A folder of numbered sessions. Left out, `folder_id` is a new UUID."""

    folder_id: Identifier | None = None
    name: Title | None = None
    user_id: Person | None = None
    plan: Plan | None = None
    metadata: Metadata | None = None


class FolderSession(Record):
    """A session of a given folder. Left out, `session_number` is the next free one.

    Left out, `session_id` derives from folder and number, or is a new UUID if there is no number either.
    """

    session_id: Identifier | None = None
    user_id: Person | None = None
    title: Title | None = None
    session_number: SessionNumber | None = None
    scheduled_on: Date | None = None
    status: SessionStatus | None = None
    tags: Tags | None = None
    metadata: Metadata | None = None
    started_at: Time | None = None
    ended_at: Time | None = None


class Session(FolderSession):
    """A conversation. Left out, `session_id` derives from folder and number, or is a new UUID without them."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"not": _requires("session_number")}, _requires("folder_id")]}
    )

    folder_id: Identifier | None = None

    @model_validator(mode="after")
    def _check_number_has_folder(self) -> Self:
        if self.session_number is not None and self.folder_id is None:
            raise PydanticCustomError("folder", "A session number needs a folder_id", {"path": ("session_number",)})
        return self


class ParticipantDetails(Record):
    """A participant's role and state. The state only moves forward."""

    role: Name | None = None
    state: ParticipantState | None = None


class ParticipantInput(ParticipantDetails):
    """A participant of a given session."""

    participant: Identifier


class Participant(ParticipantInput):
    """A participant of a session."""

    session_id: Identifier


class Interaction(Record):
    """One prompt and its response. Without a status it is failed if it has an error, completed if it has a response.

    One of a given id needs no more than the field that it fills.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [_requires(name) for name in ("prompt", "response", "error", "status", "key", "interaction_id")],
            "not": _requires("key", "interaction_id"),
        }
    )

    session_id: Identifier | None = None
    interaction_id: Identifier | None = None
    key: CompositeKey | None = None
    prompt: Content | None = None
    context: Annotated[Messages | None, Field(description="What was sent to the model before the prompt.")] = None
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
    cached_input_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    cost_usd: Amount | None = None
    participant: Person | None = None
    reply_to: Identifier | None = None
    alternative_to: Identifier | None = None
    turn: Count | None = None
    trace_id: TraceId | None = None
    span_id: SpanId | None = None
    tags: Tags | None = None
    metadata: Metadata | None = None

    @model_validator(mode="after")
    def _check_has_content(self) -> Self:
        if self.prompt is None and self.response is None and self.error is None and self.status is None:
            if self.key is None and self.interaction_id is None:
                raise PydanticCustomError("empty", "An interaction needs a prompt, a response, an error or a status")
            if not self.python_fields().keys() - {"session_id", "interaction_id", "key"}:
                raise PydanticCustomError("empty", "An interaction needs more than its ids")
        if self.key is not None and self.interaction_id is not None:
            raise PydanticCustomError(
                "two_names", "The id derives from the key; send one of key and interaction_id", {"path": ("key",)}
            )
        return self


class ChosenInteraction(Interaction):
    """An interaction of a file that says which of its alternatives its reader has chosen, and when at the latest."""

    chosen_at: Time


class FeedbackInput(Record):
    """Feedback on a given interaction or session. Of several under one name the latest counts; null takes it back."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"properties": {"value": {"not": {"type": "null"}}}},
                {"properties": {"comment": {"type": "null"}}},
            ]
        }
    )

    name: Annotated[
        Name, Field(description="What is rated; sent again under the same name, it replaces the former value")
    ] = "rating"
    value: FeedbackValue
    comment: Comment | None = None
    author: Annotated[Person | None, Field(description="Who gives it; left out, the user of the session")] = None
    given_at: Annotated[Time | None, Field(description="Of several the latest counts; left out, now")] = None

    @model_validator(mode="after")
    def _check_comment_has_value(self) -> Self:
        if self.value is None and self.comment is not None:
            raise PydanticCustomError(
                "comment", "A comment needs a value; null takes the feedback back", {"path": ("comment",)}
            )
        return self


class Feedback(FeedbackInput):
    """Feedback on an interaction, which may arrive later, or on a session. Of several by one name the latest counts."""

    session_id: Identifier
    interaction_id: Annotated[Identifier | None, Field(description="Left out, the feedback is on the session")] = None


class SessionChanges(Record):
    """Changes of the fields that people edit. A value replaces the stored one; null empties the field."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    user_id: Annotated[Name | None, Field(description="Hands the session over to this user")] = None
    title: Title | None = None
    tags: Tags | None = None
    status: Annotated[SessionStatus | None, Field(json_schema_extra=json_schema.not_null)] = None
    scheduled_on: Date | None = None
    metadata: Metadata | None = None

    @model_validator(mode="after")
    def _check_has_changes(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError(
                "empty", "Name at least one of user_id, title, tags, status, scheduled_on, metadata"
            )
        if "status" in self.model_fields_set and self.status is None:
            raise PydanticCustomError("status", "A session always has a status", {"path": ("status",)})
        return self


class InteractionChanges(Record):
    """Makes an interaction the current one of its alternatives. To go back, choose another one."""

    current: Literal[True]


class UserMerge(Record):
    """`into`: the user that a guest turned out to be."""

    into: Name


class LoggedInteraction(Interaction):
    """One prompt and its response, as one call logs it. `on_conflict`: how it changes what is stored already."""

    on_conflict: OnConflict = "keep"


class Restored(Record):
    """A record exported from another store, with the fields that only a service sets.

    For example `{"session_id": "s", "title": "Fractions", "created_at": "2026-11-21T06:30:00Z", "implicit": false}`.
    """

    created_at: Time


class RestoredFolder(Restored, Folder):
    """A folder without its plan's sessions: the export holds those that weren't erased."""

    implicit: bool = False


class RestoredSession(Restored, Session):
    """`text_expired_at`: when its title and the texts of its interactions expired."""

    implicit: bool = False
    text_expired_at: Time | None = None


class RestoredParticipant(Restored, Participant):
    pass


#: Fields of an interaction in which its revisions may differ from it.
_CONTENT: dict[str, Any] = {
    name: (each.annotation, each)
    for name, each in Interaction.model_fields.items()
    if name
    not in {
        "session_id",
        "interaction_id",
        "key",
        "participant",
        "reply_to",
        "alternative_to",
        "turn",
        "trace_id",
        "span_id",
        "tags",
        "context",
    }
}
_Facts = create_model("_Facts", __base__=Record, **_CONTENT)


def _facts(value: Any, info: ValidationInfo) -> dict[str, Any]:
    return _Facts.model_validate(value, context=info.context).json_fields()


class RestoredRevision(Restored):
    """What was said of an interaction and isn't shown. `facts`: fields of the interaction."""

    facts: Annotated[dict[str, Any], BeforeValidator(_facts)]
    said_at: Time


class RestoredInteraction(Restored, Interaction):
    """`erased_at`: set on a tombstone, whose texts were erased. `text_expired_at`: set if its texts expired."""

    chosen_at: Time | None = None
    erased_at: Time | None = None
    text_expired_at: Time | None = None
    revisions: list[RestoredRevision] | None = None


class RestoredFeedback(Restored, Feedback):
    pass
