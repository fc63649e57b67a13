"""The search's page: what is asked for, what was found, and how far it was looked for."""

from typing import Any

from flask import Blueprint, Response, url_for

from conversation import access, pages
from conversation.api import pagination, snippets
from conversation.api import search as searching
from conversation.pages import forms

blueprint = Blueprint("pages_search", __name__)


@blueprint.get("/search")
@access.page("read", restricted=True)
def search() -> Response:
    asked = forms.read(pagination.SearchQuery)
    stated = forms.asked()
    page = searching.found(asked) if stated else None
    onward: str | None = None
    if page and page.next:
        of_next: dict[str, Any] = {**stated, "cursor": page.next}
        onward = url_for("pages_search.search", **of_next)
    times = forms.times(asked.not_before, asked.before)
    hits = map(_shown, page.hits) if page else ()
    return pages.render(
        "search.html", stated=stated, times=times, page=page and page.page, hits=list(hits), onward=onward
    )


def _shown(hit: searching.Hit) -> dict[str, Any]:
    snippet = hit["snippet"]
    goes_on = snippet.starts_at + len(snippet.text) < (hit["length"] or 0)
    return {**hit, "pieces": list(snippets.parted(snippet)), "goes_on": goes_on}
