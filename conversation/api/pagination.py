"""Pages of a list: filters and page sizes, from the query string."""

import re
from typing import Annotated, Any, Literal, TypeVar

from flask import Request
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError
from werkzeug.datastructures import MultiDict

from conversation.api import cursors, snippets, validation_messages
from conversation.api.requests import InvalidBody
from logging_store.records import json_schema
from logging_store.records.models import SessionStatus
from logging_store.records.values import Identifier, Text, Time

DEFAULT_PAGE, LARGEST_PAGE = 100, 1000
DEFAULT_SEARCH_PAGE, LARGEST_SEARCH_PAGE = 20, 100  # a hit carries a part of its text
_LONGEST_QUERY = 200
_EPOCH_TIME = re.compile(r"[0-9]{9,15}(\.[0-9]{1,6})?")

_Query = TypeVar("_Query", bound=BaseModel)


def read(request: Request, model: type[_Query]) -> _Query:
    """Return a request's query string as a model. Raises `InvalidBody`, naming each parameter as ?name."""
    return parse(request.args, model)


def parse(asked: MultiDict[str, str], model: type[_Query]) -> _Query:
    """Return parameters as a model. Raises `InvalidBody`, naming each as ?name."""
    if repeated := [name for name in asked if len(asked.getlist(name)) > 1]:
        raise InvalidBody([{"path": f"?{name}", "detail": "Must be given only once"} for name in repeated])
    try:
        return model.model_validate(asked.to_dict())
    except ValidationError as error:
        raise InvalidBody(
            [
                {
                    "path": f"?{detail['loc'][0]}",
                    "detail": validation_messages.sentence(detail, model, "parameter"),
                }
                for detail in error.errors(include_url=False)
            ]
        ) from None


def _size(text: object, most: int = LARGEST_PAGE) -> int:
    if isinstance(text, str) and re.fullmatch(r"[0-9]{1,4}", text) and 1 <= int(text) <= most:
        return int(text)
    raise PydanticCustomError("limit", f"Must be a whole number from 1 to {most}")


def _search_size(text: object) -> int:
    return _size(text, LARGEST_SEARCH_PAGE)


def _query(text: str) -> str:
    if snippets.terms_of(text):
        return text
    raise PydanticCustomError("query", "Nothing is left of it to search for; leave it out for all interactions")


def _flag(text: object) -> bool:
    if isinstance(text, bool):
        return text
    if text in {"true", "false"}:
        return text == "true"
    raise PydanticCustomError("flag", "Must be true or false")


def _as_in_bodies(text: object) -> object:
    """Return a time of a query string as a body would have it: an epoch time is a number there."""
    if not isinstance(text, str):
        return text
    if _EPOCH_TIME.fullmatch(text):
        return float(text) if "." in text else int(text)
    return re.sub(r" (\d\d:?\d\d)$", r"+\1", text)  # a plus that was not encoded means a space


def _optional(description: str, *, alias: str | None = None) -> Any:
    return Field(default=None, alias=alias, description=description, json_schema_extra=json_schema.not_null)


def _cursor() -> Any:
    return Field(
        default=None,
        validation_alias="cursor",
        description="`next` of the page before",
        json_schema_extra=json_schema.not_null,
    )


_QueryTime = Annotated[Time, BeforeValidator(_as_in_bodies)]
Flag = Annotated[bool, BeforeValidator(_flag)]


class Page(BaseModel):
    """What every list takes."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE, description="Page size"), BeforeValidator(_size)] = DEFAULT_PAGE

    def to_json(self) -> Any:
        """Return the query of the list: see logging_store.operations and LogReader."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class SessionQuery(Page):
    user_id: Text | None = _optional("Only this user's")
    folder: Identifier | None = _optional("Only those of this folder: its UUID, or your own key")
    tag: Text | None = _optional("Only those with this tag")
    status: SessionStatus | None = _optional("Only those in this status")
    model: Text | None = _optional("Only those with an interaction of this model")
    has_errors: Flag | None = _optional("Only those with, or without, an interaction that failed")
    implicit: Flag | None = _optional("Only those that came along with an interaction or a plan, or the others")
    begun: Flag | None = _optional("Only those that began, not those that a plan holds locked; or only these")
    name: Text | None = _optional("Only those whose title or key contains this, in either case")
    not_before: _QueryTime | None = _optional("Not before this time", alias="from")
    before: _QueryTime | None = _optional("Before this time", alias="to")
    sort: Literal["newest", "oldest", "activity"] = Field(
        default="newest", description="activity: by when their last interaction arrived; those that have one"
    )
    count: Flag = Field(
        default=False,
        exclude=True,
        description="Also tell how many there are, as far as a look reaches: 10,000 at most",
    )
    after: cursors.SessionCursor | None = _cursor()


class RecentQuery(Page):
    model: Text | None = _optional("Only of this model")
    has_errors: Flag | None = _optional("Only those that failed")
    error: Text | None = _optional("Only those with an error of this kind, as an overview spells it")
    not_before: _QueryTime | None = _optional("Only those that began, not before this time", alias="from")
    before: _QueryTime | None = _optional("Only those that began before this time", alias="to")
    after: cursors.InteractionCursor | None = _cursor()


class FolderQuery(Page):
    after: cursors.NumberCursor | None = _cursor()


class FoldersQuery(Page):
    user_id: Text | None = _optional("Only this user's")
    after: cursors.FolderPlace | None = _cursor()


class OverviewQuery(BaseModel):
    """Which time an overview is of, and how long its parts are."""

    model_config = ConfigDict(extra="forbid")

    span: Literal["24h", "7d", "30d", "90d"] | None = _optional("So long before now; 24h if nothing is stated")
    not_before: _QueryTime | None = _optional("Not before this time, instead of a span", alias="from")
    before: _QueryTime | None = _optional("Before this time; left out, it is until now", alias="to")
    by: Literal["hour", "day"] | None = _optional("How long the parts are; left out, days from 7 days on")


class GapsQuery(Page):
    limit: Annotated[
        int,
        Field(ge=1, le=LARGEST_PAGE, description="The most gaps, and the most doubled turns, listed"),
        BeforeValidator(_size),
    ] = DEFAULT_PAGE


class TranscriptQuery(Page):
    after: cursors.TurnCursor | None = _cursor()


class SearchQuery(Page):
    q: Annotated[Text, Field(max_length=_LONGEST_QUERY), AfterValidator(_query)] | None = Field(
        default=None,
        exclude=True,
        description='Words, and "several in quotes", all of which must be said, also as parts of words',
        json_schema_extra=json_schema.not_null,
    )
    words: bool = Field(default=False, description="Only as whole words, in scripts that part them")
    user_id: Text | None = _optional("Only in this user's sessions")
    session: Identifier | None = _optional("Only in this session")
    model: Text | None = _optional("Only of this model")
    not_before: _QueryTime | None = _optional("Not before this time", alias="from")
    before: _QueryTime | None = _optional("Before this time", alias="to")
    order: Literal["newest", "match"] = Field(
        default="newest", description="match: of what a call finds, the best first; `next` goes on with what is older"
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
    """Which turns of a conversation its web page shows: the first ones, unless it says which."""

    model_config = ConfigDict(extra="ignore")

    turn: Text | None = Field(default=None, description="The page that this interaction is on, by id or key")
    after: cursors.TurnCursor | None = _cursor()
    before: cursors.TurnCursor | None = None
