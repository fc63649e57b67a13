"""The search page: the form, the hits, and how far back the search reached."""

from typing import Any

from flask import Blueprint, Response, url_for

from conversation import access, pages
from conversation.api import pagination, snippets
from conversation.api import search as searching
from conversation.pages import forms

blueprint = Blueprint("pages_search", __name__)


@blueprint.get("/search")
@access.page("read", restricted=True, heavy=lambda request: bool(request.args))
def search() -> Response:
    query, errors = forms.read_with_times(pagination.SearchQuery)
    parameters = forms.without(forms.parameters(), *errors)
    page = searching.search_page(query) if parameters else None
    next_url: str | None = None
    if page and page.next:
        next_parameters: dict[str, Any] = {**parameters, "cursor": page.next}
        next_url = url_for("pages_search.search", **next_parameters)
    return pages.render(
        "search.html",
        422 if errors else 200,
        errors=errors,
        parameters=parameters,
        times=forms.times(query.not_before, query.before),
        page=page and page.page,
        keep_text_days=page and page.keep_text_days,
        hits=[_view_of(hit) for hit in page.hits] if page else [],
        next_url=next_url,
    )


def _view_of(hit: searching.Hit) -> dict[str, Any]:
    snippet = hit["snippet"]
    is_cut_off = snippet.starts_at + len(snippet.text) < (hit["length"] or 0)
    return {**hit, "pieces": list(snippets.split_at_marks(snippet)), "is_cut_off": is_cut_off}
