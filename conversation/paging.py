"""Pages of a list: filters, page sizes and cursors, from and to the query string.

A cursor is a place in a list, spelled in hexadecimal digits of fixed length: any text of that form is some place,
so a cursor that somebody made up or cut is refused or does no harm.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from flask import Request
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError
from werkzeug.datastructures import MultiDict

from conversation import snippets
from conversation.body import InvalidBody
from logging_store import shapes
from logging_store.records import SessionStatus
from logging_store.values import MAX_EXACT_INTEGER, Identifier, Text, Time

DEFAULT_PAGE, LARGEST_PAGE = 100, 1000
DEFAULT_SEARCH_PAGE, LARGEST_SEARCH_PAGE = 20, 100  # a hit carries a part of its text
_LONGEST_QUERY = 200

_Query = TypeVar("_Query", bound=BaseModel)

_EPOCH, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
UNCOUNTED = 2**63 - 1  # the turn at which the store puts interactions without one: after all others
LAST_ID = str(UUID(int=2**128 - 1))
_UNNUMBERED = 2**31 - 1  # the number at which the store puts sessions without one
_TURN, _AT, _ID = 14, 15, 32  # digits: 2**53 fits in 14, the microseconds of 9999 years in 15, a UUID in 32
_NUMBER = 8
_NO_PLACE = PydanticCustomError("cursor", "Not a cursor of this list; start again without one")
_LENGTH = 4
# an id, the bytes of an author in UTF-8, the author and a name of up to 800 bytes each
_FEEDBACK_CURSOR = f"[0-9a-f]{{{_ID + _LENGTH}}}([0-9a-f]{{2}}){{0,1600}}"


def read(request: Request, model: type[_Query]) -> _Query:
    """Return a request's query string as a model. Raises `InvalidBody`, naming each parameter as ?name."""
    return parse(request.args, model)


def parse(asked: MultiDict[str, str], model: type[_Query]) -> _Query:
    """Return parameters as a model. Raises `InvalidBody`, naming each as ?name."""
    if repeated := [name for name in asked if len(asked.getlist(name)) > 1]:
        raise InvalidBody([{"path": f"?{name}", "detail": "Given more than once"} for name in repeated])
    return validated(asked.to_dict(), model)


def validated(stated: Mapping[str, str], model: type[_Query]) -> _Query:
    """Return the parameters of a query as a model. Raises `InvalidBody`, naming each as ?name."""
    try:
        return model.model_validate(stated)
    except ValidationError as error:
        raise InvalidBody(
            [
                {
                    "path": f"?{detail['loc'][0]}",
                    "detail": "Not a parameter of this call" if detail["type"] == "extra_forbidden" else detail["msg"],
                }
                for detail in error.errors(include_url=False)
            ]
        ) from None


def session_cursor(place: dict[str, Any] | None) -> str | None:
    """Spell the place after a page of sessions, as the store gives it: `{at, session_id}`."""
    return _spell_time(place["at"]) + UUID(place["session_id"]).hex if place else None


def folder_cursor(place: dict[str, Any] | None) -> str | None:
    """Spell the place after a page of a folder's sessions: `{number, session_id}`."""
    return f"{place['number']:0{_NUMBER}x}" + UUID(place["session_id"]).hex if place else None


def folders_cursor(place: str | None) -> str | None:
    """Spell the place after a page of folders: the last one's id."""
    return UUID(place).hex if place else None


def transcript_cursor(place: dict[str, Any] | None) -> str | None:
    """Spell the place after a page of a transcript: `{turn, at, interaction_id}`."""
    if not place:
        return None
    turn = place["turn"] if place["turn"] <= MAX_EXACT_INTEGER else 16**_TURN - 1
    return f"{turn:0{_TURN}x}" + _spell_time(place["at"]) + UUID(place["interaction_id"]).hex


def interaction_cursor(place: dict[str, Any] | None) -> str | None:
    """Spell the place after a page of interactions of all sessions: `{at, session_id, interaction_id}`."""
    if not place:
        return None
    return _spell_time(place["at"]) + UUID(place["session_id"]).hex + UUID(place["interaction_id"]).hex


def feedback_cursor(place: dict[str, Any] | None) -> str | None:
    """Spell the place after a page of feedback: `{interaction_id, author, name}`."""
    if not place:
        return None
    author = place["author"].encode()
    return (
        UUID(place["interaction_id"]).hex + f"{len(author):0{_LENGTH}x}" + author.hex() + place["name"].encode().hex()
    )


def _spell_time(text: str) -> str:
    return f"{(datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND:0{_AT}x}"


def _time_of(digits: str) -> str:
    return (_EPOCH + min(int(digits, 16) * _MICROSECOND, _LAST - _EPOCH)).isoformat()


def _digits(cursor: object, count: int) -> str:
    if isinstance(cursor, str) and re.fullmatch(f"[0-9a-f]{{{count}}}", cursor):
        return cursor
    raise _NO_PLACE


def _session_place(cursor: object) -> dict[str, Any]:
    digits = _digits(cursor, _AT + _ID)
    return {"at": _time_of(digits[:_AT]), "session_id": str(UUID(digits[_AT:]))}


def _interaction_place(cursor: object) -> dict[str, Any]:
    digits = _digits(cursor, _AT + 2 * _ID)
    at, session, interaction = digits[:_AT], digits[_AT:-_ID], digits[-_ID:]
    return {"at": _time_of(at), "session_id": str(UUID(session)), "interaction_id": str(UUID(interaction))}


def _folder_place(cursor: object) -> dict[str, Any]:
    digits = _digits(cursor, _NUMBER + _ID)
    return {"number": min(int(digits[:_NUMBER], 16), _UNNUMBERED), "session_id": str(UUID(digits[_NUMBER:]))}


def _folders_place(cursor: object) -> str:
    return str(UUID(_digits(cursor, _ID)))


def _transcript_place(cursor: object) -> dict[str, Any]:
    digits = _digits(cursor, _TURN + _AT + _ID)
    turn, at, interaction = digits[:_TURN], digits[_TURN:-_ID], digits[-_ID:]
    counted = int(turn, 16) <= MAX_EXACT_INTEGER
    return {
        "turn": int(turn, 16) if counted else UNCOUNTED,
        "at": _time_of(at),
        "interaction_id": str(UUID(interaction)),
    }


def _feedback_place(cursor: object) -> dict[str, Any]:
    if not isinstance(cursor, str) or not re.fullmatch(_FEEDBACK_CURSOR, cursor):
        raise _NO_PLACE
    names, length = bytes.fromhex(cursor[_ID + _LENGTH :]), int(cursor[_ID : _ID + _LENGTH], 16)
    author, name = (
        part.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
        for part in (names[:length], names[length:])
    )
    return {"interaction_id": str(UUID(cursor[:_ID])), "author": author, "name": name}


def _size(text: object, most: int = LARGEST_PAGE) -> int:
    if isinstance(text, str) and re.fullmatch(r"[0-9]{1,4}", text) and 1 <= int(text) <= most:
        return int(text)
    raise PydanticCustomError("limit", f"Must be a number from 1 to {most}")


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


def _with_plus(text: object) -> object:
    # in a query string a plus that was not encoded means a space
    return re.sub(r" (\d\d:?\d\d)$", r"+\1", text) if isinstance(text, str) else text


def _digits_schema(count: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^[0-9a-f]{{{count}}}$"})


def _optional(description: str, *, alias: str | None = None) -> Any:
    return Field(default=None, alias=alias, description=description, json_schema_extra=shapes.never_null)


def _cursor() -> Any:
    return Field(
        default=None,
        validation_alias="cursor",
        description="`next` of the page before",
        json_schema_extra=shapes.never_null,
    )


_QueryTime = Annotated[Time, BeforeValidator(_with_plus)]
Flag = Annotated[bool, BeforeValidator(_flag)]
_Place = dict[str, Any]


class Page(BaseModel):
    """What every list takes."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE, description="Page size"), BeforeValidator(_size)] = DEFAULT_PAGE

    def to_json(self) -> dict[str, Any]:
        """Return what the store's lists take."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class SessionQuery(Page):
    user_id: Text | None = _optional("Only this user's")
    folder: Identifier | None = _optional("Only those of this folder: its UUID, or your own key")
    tag: Text | None = _optional("Only those with this tag")
    status: SessionStatus | None = _optional("Only those in this status")
    model: Text | None = _optional("Only those with an interaction of this model")
    has_errors: Flag | None = _optional("Only those with, or without, an interaction that failed")
    implicit: Flag | None = _optional("Only those that came along with an interaction or a plan, or the others")
    name: Text | None = _optional("Only those whose title or key contains this, in either case")
    not_before: _QueryTime | None = _optional("Not before this time", alias="from")
    before: _QueryTime | None = _optional("Before this time", alias="to")
    sort: Literal["newest", "oldest", "activity"] = Field(
        default="newest", description="activity: by when their last interaction arrived; those that have one"
    )
    count: Flag = Field(
        default=False, exclude=True, description="Also tell how many there are: up to 10,000 are counted"
    )
    after: Annotated[_Place, BeforeValidator(_session_place), _digits_schema(_AT + _ID)] | None = _cursor()


class RecentQuery(Page):
    model: Text | None = _optional("Only of this model")
    has_errors: Flag | None = _optional("Only those that failed")
    after: Annotated[_Place, BeforeValidator(_interaction_place), _digits_schema(_AT + 2 * _ID)] | None = _cursor()


class FolderQuery(Page):
    after: Annotated[_Place, BeforeValidator(_folder_place), _digits_schema(_NUMBER + _ID)] | None = _cursor()


class FoldersQuery(Page):
    user_id: Text | None = _optional("Only this user's")
    after: Annotated[str, BeforeValidator(_folders_place), _digits_schema(_ID)] | None = _cursor()


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
    after: Annotated[_Place, BeforeValidator(_transcript_place), _digits_schema(_TURN + _AT + _ID)] | None = _cursor()


class SearchQuery(Page):
    q: Annotated[Text, Field(max_length=_LONGEST_QUERY), AfterValidator(_query)] | None = Field(
        default=None,
        exclude=True,
        description='Words, and "several in quotes", all of which must be said, also as parts of words',
        json_schema_extra=shapes.never_null,
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
    after: Annotated[_Place, BeforeValidator(_interaction_place), _digits_schema(_AT + 2 * _ID)] | None = _cursor()

    @property
    def terms(self) -> list[str]:
        return snippets.terms_of(self.q or "")

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"terms": self.terms}


class FeedbackQuery(Page):
    interaction: Identifier | None = _optional("Only of this interaction: its UUID, or the caller's own key")
    after: (
        Annotated[
            _Place,
            BeforeValidator(_feedback_place),
            WithJsonSchema({"type": "string", "pattern": f"^{_FEEDBACK_CURSOR}$"}),
        ]
        | None
    ) = _cursor()


class ConversationQuery(TranscriptQuery):
    case: Literal["snake", "camel"] = Field(
        default="snake", exclude=True, description="How the answer's names are spelled: message_id or messageId"
    )


class TurnsQuery(BaseModel):
    """Which turns of a conversation its web page shows: the first ones, unless it says which."""

    model_config = ConfigDict(extra="ignore")

    turn: Text | None = Field(default=None, description="The page that this interaction is on, by id or key")
    after: Annotated[_Place, BeforeValidator(_transcript_place)] | None = _cursor()
    before: Annotated[_Place, BeforeValidator(_transcript_place)] | None = None
