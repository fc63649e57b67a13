"""The search's endpoint: interactions that say something, or simply the newest."""

from typing import Any

from flask import Blueprint, Response, jsonify, request

from conversation import access, cursors, http, paging, search_answers, snippets
from conversation.openapi import describe

blueprint = Blueprint("searching", __name__)


def found(query: paging.SearchQuery) -> dict[str, Any]:
    """Return a page of hits as the caller may see them, each with its snippet."""
    page = http.repository().search(query.to_json())
    for hit in page["hits"]:
        hit["snippet"] = snippets.of_hit(hit, query.terms, words=query.words)
    return page | {"next": cursors.interaction_cursor(page["after"])}


@blueprint.get("/v1/interactions")
@access.requires("read", restricted=True)
@describe(
    "Search prompts and responses, newest first; without `q` all interactions",
    None,
    {200: search_answers.SearchPage},
    query=paging.SearchQuery,
)
def search() -> Response:
    page = found(paging.read(request, paging.SearchQuery))
    hits = [_arranged(hit) for hit in page["hits"]]
    return jsonify(search_answers.SearchPage.arrange(page | {"hits": hits}))


def _arranged(hit: dict[str, Any]) -> dict[str, Any]:
    snippet: snippets.Snippet = hit["snippet"]
    marks = [mark._asdict() for mark in snippet.marks]
    shown = {"snippet": snippet.text, "starts_at": snippet.starts_at, "marks": marks, "length": hit["length"] or 0}
    return search_answers.SearchHit.arrange(hit | shown)
