"""What the API answers to a search."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from conversation.api.schemas import Answer


class SearchMark(Answer):
    start: Annotated[int, Field(description="In code points of the snippet")]
    end: Annotated[int, Field(description="Behind the last one")]


class SearchHit(Answer):
    """`snippet` is a part of `field`, whose text has `length` code points: of a list of messages, what they say."""

    session_id: UUID
    session_key: str | None
    session_title: str | None
    user_id: str | None
    interaction_id: UUID
    interaction_key: str | None
    turn: int | None
    at: Annotated[datetime, Field(description="When it started, or arrived where nobody said")]
    model: str | None
    field: Literal["prompt", "response"] | None
    snippet: str
    starts_at: Annotated[int, Field(description="Where in the text the snippet begins, in code points")]
    length: int
    marks: list[SearchMark]


class SearchPage(Answer):
    """`complete` is false if the call ended before its page was full and all was looked at: go on with `next`."""

    interactions: list[SearchHit]
    complete: bool
    searched: Annotated[int, Field(description="Interactions that this call has looked at")]
    searched_to: Annotated[datetime | None, Field(description="How far back this call came; null: all the way")]
    next: str | None
