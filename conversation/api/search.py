"""Search over interactions; without a query, the newest ones."""

from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

from flask import Blueprint, Response, current_app, jsonify, request
from pydantic import Field

from conversation import access
from conversation.api import caller, cursors, pagination, snippets
from conversation.api.openapi import describe
from conversation.api.schemas import ResponseModel
from conversation.settings import Settings
from logging_store import operations as ops

blueprint = Blueprint("searching", __name__)


class SearchMark(ResponseModel):
    start: Annotated[int, Field(description="In code points of the snippet")]
    end: Annotated[int, Field(description="One after the last code point")]


class SearchHit(ResponseModel):
    """`snippet` is an excerpt of `field`, which has `length` code points: of messages, their texts joined."""

    session_id: UUID
    session_key: str | None
    session_title: str | None
    user_id: str | None
    interaction_id: UUID
    interaction_key: str | None
    turn: int | None
    at: Annotated[datetime, Field(description="When it started; when it arrived, if that is unknown")]
    model: str | None
    field: Literal["prompt", "response"] | None
    snippet: str
    starts_at: Annotated[int, Field(description="Where in the text the snippet begins, in code points")]
    length: int
    marks: list[SearchMark]


class SearchPage(ResponseModel):
    """`complete` is false if the call ran out of time before the page was full: continue with `next`."""

    interactions: list[SearchHit]
    complete: bool
    searched: Annotated[int, Field(description="How many interactions this call examined")]
    searched_to: Annotated[datetime | None, Field(description="How far back this call searched; null: to the oldest")]
    keep_text_days: Annotated[
        int | None,
        Field(description="Texts of sessions idle for more days expire and aren't found; null: none do"),
    ]
    next: str | None


class Hit(ops.SearchHit):
    snippet: snippets.Snippet


class HitPage(NamedTuple):
    """A page of hits, each with its snippet; `next` is the cursor of the next page.

    `keep_text_days`: for how many idle days the project keeps texts; None: as long as their sessions.
    """

    page: ops.SearchPage
    hits: list[Hit]
    keep_text_days: int | None
    next: str | None


def search_page(query: pagination.SearchQuery) -> HitPage:
    """Return a page of hits among the sessions that the caller may read."""
    page = caller.repository().search(query.to_json())
    hits: list[Hit] = [
        {**hit, "snippet": snippets.excerpt_of_hit(hit, query.terms, words=query.words)} for hit in page["interactions"]
    ]
    settings: Settings = current_app.extensions["turnlog_settings"]
    keep_text_days = page["keep_text_days"] or settings.turnlog_keep_text_days
    return HitPage(page, hits, keep_text_days, cursors.interaction_cursor(page["after"]))


@blueprint.get("/v1/interactions")
@access.requires("read", restricted=True, heavy=True)
@describe(
    "Search prompts and responses, newest first; without `q` all interactions",
    None,
    {200: SearchPage},
    query=pagination.SearchQuery,
)
def search() -> Response:
    found = search_page(pagination.read(request, pagination.SearchQuery))
    body = {
        "interactions": [_view(hit) for hit in found.hits],
        "keep_text_days": found.keep_text_days,
        "next": found.next,
    }
    return jsonify(SearchPage.arrange({**found.page, **body}))


def _view(hit: Hit) -> dict[str, Any]:
    snippet = hit["snippet"]
    marks = [mark._asdict() for mark in snippet.marks]
    excerpt = {"snippet": snippet.text, "starts_at": snippet.starts_at, "marks": marks, "length": hit["length"] or 0}
    return SearchHit.arrange({**hit, **excerpt})
