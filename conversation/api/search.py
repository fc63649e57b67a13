"""The search's endpoint: interactions that say something, or simply the newest."""

from typing import Any, NamedTuple

from flask import Blueprint, Response, jsonify, request

from conversation import access
from conversation.api import cursors, http, pagination, search_schemas, snippets
from conversation.api.openapi import describe
from logging_store import operations as ops

blueprint = Blueprint("searching", __name__)


class Hit(ops.SearchHit):
    snippet: snippets.Snippet


class Found(NamedTuple):
    """A page of the search, its hits with their snippets."""

    page: ops.SearchPage
    hits: list[Hit]
    next: str | None


def found(query: pagination.SearchQuery) -> Found:
    """Return a page of hits as the caller may see them."""
    page = http.repository().search(query.to_json())
    hits: list[Hit] = [
        {**hit, "snippet": snippets.of_hit(hit, query.terms, words=query.words)} for hit in page["interactions"]
    ]
    return Found(page, hits, cursors.interaction_cursor(page["after"]))


@blueprint.get("/v1/interactions")
@access.requires("read", restricted=True)
@describe(
    "Search prompts and responses, newest first; without `q` all interactions",
    None,
    {200: search_schemas.SearchPage},
    query=pagination.SearchQuery,
)
def search() -> Response:
    page, hits, following = found(pagination.read(request, pagination.SearchQuery))
    arranged = {"interactions": [_arranged(hit) for hit in hits], "next": following}
    return jsonify(search_schemas.SearchPage.arrange({**page, **arranged}))


def _arranged(hit: Hit) -> dict[str, Any]:
    snippet = hit["snippet"]
    marks = [mark._asdict() for mark in snippet.marks]
    shown = {"snippet": snippet.text, "starts_at": snippet.starts_at, "marks": marks, "length": hit["length"] or 0}
    return search_schemas.SearchHit.arrange({**hit, **shown})
