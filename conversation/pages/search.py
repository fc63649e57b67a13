"""The search's page: what is asked for, what was found, and how far it was looked for."""

from typing import Any

from flask import Blueprint, Response, url_for

from conversation import access, pages, paging, searching, snippets
from conversation.pages import forms

blueprint = Blueprint("pages_search", __name__)


@blueprint.get("/search")
@access.page("read", restricted=True)
def search() -> Response:
    asked = forms.read(paging.SearchQuery)
    stated = forms.asked()
    page: dict[str, Any] | None = None
    if stated:
        page = searching.found(asked)
        for hit in page["hits"]:
            hit["pieces"] = list(snippets.parted(hit["snippet"]))
            hit["goes_on"] = hit["snippet"].starts_at + len(hit["snippet"].text) < (hit["length"] or 0)
    onward = url_for("pages_search.search", **{**stated, "cursor": page["next"]}) if page and page["next"] else None
    times = forms.times(asked.not_before, asked.before)
    return pages.render("search.html", stated=stated, times=times, page=page, onward=onward)
