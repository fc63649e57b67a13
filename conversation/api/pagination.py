"""Query strings of lists: filters, page sizes and cursors."""

import re
from typing import Annotated, Any, Literal, TypeVar

from flask import Request
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError
from werkzeug.datastructures import MultiDict

from conversation.api import cursors, snippets, spans
from conversation.api.requests import MAX_FIELDS, InvalidBody, look_ups
from conversation.refusals import validation_messages
from logging_store.records import json_schema
from logging_store.records.json_values import STORABLE
from logging_store.records.models import SessionStatus
from logging_store.records.values import Identifier, Text, Time

DEFAULT_PAGE, LARGEST_PAGE = 100, 1000
DEFAULT_SEARCH_PAGE, LARGEST_SEARCH_PAGE = 20, 100  # smaller, since hits carry excerpts
_LONGEST_QUERY = 200
_MOST_TURNS = 1000  # to which the interactions of each session are counted
_MOST_KEYS = 5
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?([eE][+-]?[0-9]{1,2})?")  # as in JSON
#: How the contract names the parameters for metadata.
METADATA = "metadata.{key}"
_EPOCH_TIME = re.compile(r"[0-9]{9,15}(\.[0-9]{1,6})?")

_Query = TypeVar("_Query", bound=BaseModel)


def read(request: Request, model: type[_Query]) -> _Query:
    """Return a request's query string as a model. Raises `InvalidBody`, naming each parameter as ?name."""
    return parse(request.args, model)


def parse(parameters: MultiDict[str, str], model: type[_Query]) -> _Query:
    """Return parameters as a model. Raises `InvalidBody`, naming each as ?name."""
    if repeated := [name for name in parameters if len(parameters.getlist(name)) > 1]:
        fields = [{"path": f"?{name}", "detail": "Must be given only once"} for name in repeated[:MAX_FIELDS]]
        raise InvalidBody(fields)
    given: dict[str, Any] = parameters.to_dict()
    if issubclass(model, SessionQuery):
        given = _gather_metadata(given)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise InvalidBody(
            [
                {
                    "path": f"?{_name_of(detail['loc'])}",
                    "detail": validation_messages.sentence(detail, model, "parameter", look_ups()),
                }
                for detail in error.errors(include_url=False)[:MAX_FIELDS]
            ]
        ) from None


def _gather_metadata(given: dict[str, str]) -> dict[str, Any]:
    """Return parameters with those called `metadata.KEY` as one, by key."""
    prefix = METADATA.removesuffix("{key}")
    metadata = {name.removeprefix(prefix): value for name, value in given.items() if name.startswith(prefix)}
    others = {name: value for name, value in given.items() if not name.startswith(prefix)}
    return others | ({METADATA: metadata} if metadata else {})


def _name_of(place: tuple[int | str, ...]) -> str:
    """Return the name of the parameter at a place of the model."""
    if place[0] == METADATA and len(place) > 1:
        return METADATA.replace("{key}", str(place[1]))
    return str(place[0])


def _forms_of(text: str) -> list[str | int | float | bool]:
    """Return the values of metadata that a text in a URL may mean: itself, and a boolean or a number."""
    if text in {"true", "false"}:
        return [text, text == "true"]
    if _NUMBER.fullmatch(text):
        return [text, float(text) if re.search("[.eE]", text) else int(text)]
    return [text]


def _count(text: object) -> int:
    if isinstance(text, str) and re.fullmatch(r"[0-9]{1,4}", text) and int(text) <= _MOST_TURNS:
        return int(text)
    raise PydanticCustomError("count", f"Must be a whole number from 0 to {_MOST_TURNS}")


def _size(text: object, most: int = LARGEST_PAGE) -> int:
    if isinstance(text, str) and re.fullmatch(r"[0-9]{1,4}", text) and 1 <= int(text) <= most:
        return int(text)
    raise PydanticCustomError("limit", f"Must be a whole number from 1 to {most}")


def _search_size(text: object) -> int:
    return _size(text, LARGEST_SEARCH_PAGE)


def _query(text: str) -> str:
    if snippets.terms_of(text):
        return text
    raise PydanticCustomError("query", "Has nothing to search for; leave it out to list all interactions")


def _zone(name: str) -> str:
    spans.zone_named(name)
    return name


def _flag(text: object) -> bool:
    if isinstance(text, bool):
        return text
    if text in {"true", "false"}:
        return text == "true"
    raise PydanticCustomError("flag", "Must be true or false")


def _as_in_bodies(text: object) -> object:
    """Return a time of a query string as it would be in a body, where an epoch time is a number."""
    if not isinstance(text, str):
        return text
    if _EPOCH_TIME.fullmatch(text):
        return float(text) if "." in text else int(text)
    return re.sub(r" (\d\d:?\d\d)$", r"+\1", text)  # an unencoded plus arrives as a space


def _optional(description: str, *, alias: str | None = None) -> Any:
    return Field(default=None, alias=alias, description=description, json_schema_extra=json_schema.not_null)


def _cursor() -> Any:
    return Field(
        default=None,
        validation_alias="cursor",
        description="`next` of the page before",
        json_schema_extra=json_schema.not_null,
    )


_Count = Annotated[int, Field(ge=0, le=_MOST_TURNS), BeforeValidator(_count)]
_Key = Annotated[str, Field(min_length=1, max_length=200), STORABLE]
_Metadata = Annotated[
    dict[_Key, Annotated[str, Field(max_length=1000), STORABLE]],
    Field(max_length=_MOST_KEYS),
    WithJsonSchema({"type": "string", "maxLength": 1000}),
]
_QueryTime = Annotated[Time, BeforeValidator(_as_in_bodies)]
Flag = Annotated[bool, BeforeValidator(_flag)]


class Page(BaseModel):
    """The parameters of every list."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE, description="Page size"), BeforeValidator(_size)] = DEFAULT_PAGE

    def to_json(self) -> Any:
        """Return the store's query: see `logging_store.operations` and `LogReader`."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class SessionQuery(Page):
    user_id: Text | None = _optional("Only this user's")
    folder: Identifier | None = _optional("Only those of this folder: its UUID, or your own key")
    tag: Text | None = _optional("Only those with this tag")
    untagged: Flag | None = _optional("Only those without, or with, a tag")
    metadata: _Metadata | None = _optional(
        "Only those whose metadata has this value under `key`: a text, a number or a boolean", alias=METADATA
    )
    status: SessionStatus | None = _optional("Only those in this status")
    model: Text | None = _optional("Only those with an interaction of this model")
    has_errors: Flag | None = _optional("Only those with, or without, an interaction that failed")
    rating: Flag | None = _optional("Only those that somebody rated up, or down, as a whole or an interaction of them")
    unrated: Flag | None = _optional("Only those that nobody rated, or that somebody did")
    min_turns: _Count | None = _optional("Only those with at least so many interactions")
    max_turns: _Count | None = _optional("Only those with at most so many interactions")
    implicit: Flag | None = _optional("Only sessions that an interaction or a plan created, or only the others")
    begun: Flag | None = _optional("Only sessions that have begun, or only those that a plan holds locked")
    name: Text | None = _optional("Only those whose title or key contains this, ignoring case")
    not_before: _QueryTime | None = _optional("At or after this time", alias="from")
    before: _QueryTime | None = _optional("Before this time", alias="to")
    sort: Literal["newest", "oldest", "activity", "id"] = Field(
        default="newest",
        description="activity: by their last interaction's arrival when paging began; leaves out sessions without one. "
        "id: each session that existed when paging began exactly once, whatever is written meanwhile",
    )
    count: Flag = Field(
        default=False,
        exclude=True,
        description="Also count the matching sessions, up to 10,000",
    )
    after: cursors.SessionCursor | None = _cursor()

    def to_json(self) -> Any:
        query = super().to_json()
        if self.metadata:
            del query[METADATA]
            query["metadata"] = [
                [{key: form} for form in _forms_of(value)] for key, value in sorted(self.metadata.items())
            ]
        return query


class RecentQuery(Page):
    model: Text | None = _optional("Only of this model")
    has_errors: Flag | None = _optional("Only those that failed")
    error: Text | None = _optional("Only those with an error of this kind, as in an overview")
    not_before: _QueryTime | None = _optional("Only those that began at or after this time", alias="from")
    before: _QueryTime | None = _optional("Only those that began before this time", alias="to")
    after: cursors.InteractionCursor | None = _cursor()


class FolderQuery(Page):
    after: cursors.NumberCursor | None = _cursor()


class FoldersQuery(Page):
    user_id: Text | None = _optional("Only this user's")
    after: cursors.FolderPlace | None = _cursor()


class OverviewQuery(BaseModel):
    """The span of an overview, and the length of its buckets."""

    model_config = ConfigDict(extra="forbid")

    span: Literal["24h", "7d", "30d", "90d"] | None = _optional("The span until now; 24h by default")
    not_before: _QueryTime | None = _optional("At or after this time, instead of a span", alias="from")
    before: _QueryTime | None = _optional("Before this time; now by default", alias="to")
    by: spans.By | None = _optional("The length of a bucket; by default days for 7 days or more, else hours")
    zone: Annotated[Text, AfterValidator(_zone)] | None = _optional(
        "The time zone whose hours, days and weeks are counted, such as Europe/Berlin; without one, those since `from` "
        "or, of a span, those of UTC"
    )


class UsageQuery(Page):
    by: Literal["user"] = Field(default="user", description="Whose tokens and costs are summed up")
    user_id: Text | None = _optional("Only this user's, and exact however many they are")
    span: Literal["24h", "7d", "30d", "90d"] | None = _optional("The span until now; 24h by default")
    not_before: _QueryTime | None = _optional("At or after this time, instead of a span", alias="from")
    before: _QueryTime | None = _optional("Before this time; now by default", alias="to")
    zone: Annotated[Text, AfterValidator(_zone)] | None = _optional(
        "The time zone in which the days of a span begin, such as Europe/Berlin; UTC by default"
    )
    after: cursors.UsageCursor | None = _cursor()

    def overview(self) -> OverviewQuery:
        """Return the span."""
        span, zone = self.span, self.zone
        return OverviewQuery.model_construct(span=span, not_before=self.not_before, before=self.before, zone=zone)


class AuditQuery(Page):
    session: Identifier | None = _optional("Only reads of this session: its UUID, or your own key")
    user_id: Text | None = _optional("Only reads of this user's conversations")
    reader: Text | None = _optional("Only what this reader read: the id of a key, or a user")
    not_before: _QueryTime | None = _optional("At or after this time", alias="from")
    before: _QueryTime | None = _optional("Before this time", alias="to")
    after: cursors.ReadCursor | None = _cursor()


class GapsQuery(Page):
    limit: Annotated[
        int,
        Field(ge=1, le=LARGEST_PAGE, description="How many gaps, and how many doubled turns, are listed at most"),
        BeforeValidator(_size),
    ] = DEFAULT_PAGE


class TranscriptQuery(Page):
    branches: Literal["current", "all"] = Field(
        default="current", description="all: also interactions that aren't on the current branch"
    )
    branch: Identifier | None = _optional("The branch that leads through this interaction: its UUID, or your own key")
    context: bool = Field(default=False, description="With what was sent to the model before each prompt")
    after: cursors.TurnCursor | None = _cursor()


class RevisionsQuery(Page):
    after: cursors.RevisionCursor | None = _cursor()


class SpansQuery(Page):
    limit: Annotated[
        int,
        Field(ge=1, le=LARGEST_PAGE, description="How many spans are listed at most: those closest in time"),
        BeforeValidator(_size),
    ] = DEFAULT_PAGE


class ConversationQuery(TranscriptQuery):
    branches: Literal["current", "all"] = Field(
        default="all", description="current: only messages on the current branch"
    )


class SearchQuery(Page):
    q: Annotated[Text, Field(max_length=_LONGEST_QUERY), AfterValidator(_query)] | None = Field(
        default=None,
        exclude=True,
        description='Words and "phrases in quotes"; all must occur, also within words',
        json_schema_extra=json_schema.not_null,
    )
    words: bool = Field(default=False, description="Whole words only, in scripts with spaces between words")
    user_id: Text | None = _optional("Only in this user's sessions")
    session: Identifier | None = _optional("Only in this session")
    model: Text | None = _optional("Only of this model")
    not_before: _QueryTime | None = _optional("At or after this time", alias="from")
    before: _QueryTime | None = _optional("Before this time", alias="to")
    order: Literal["newest", "match"] = Field(
        default="newest", description="match: the best hits of a page first; `next` continues with older ones"
    )
    limit: Annotated[
        int, Field(ge=1, le=LARGEST_SEARCH_PAGE, description="Page size"), BeforeValidator(_search_size)
    ] = DEFAULT_SEARCH_PAGE
    after: cursors.InteractionCursor | None = _cursor()

    @property
    def terms(self) -> list[str]:
        return snippets.terms_of(self.q or "")

    def to_json(self) -> Any:
        return super().to_json() | {"terms": self.terms}


class FeedbackQuery(Page):
    interaction: Identifier | None = _optional("Only of this interaction: its UUID, or the caller's own key")
    after: cursors.FeedbackCursor | None = _cursor()


class TurnsQuery(BaseModel):
    """Which turns the page of a conversation shows; the first ones by default."""

    model_config = ConfigDict(extra="ignore")

    turn: Text | None = Field(default=None, description="The page that this interaction is on, by id or key")
    branch: Text | None = Field(default=None, description="The branch that leads through this interaction")
    after: cursors.TurnCursor | None = _cursor()
    before: cursors.TurnCursor | None = None
