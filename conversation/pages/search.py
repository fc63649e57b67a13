"""The search's page: what is asked for, what was found, and how far it was looked for."""

import re
from typing import Any

from flask import Blueprint, Response, request, url_for

from conversation import access, pages, paging, searching, snippets

blueprint = Blueprint("pages_search", __name__)

_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@blueprint.get("/search")
@access.page("read", restricted=True)
def search() -> Response:
    stated = _stated()
    page: dict[str, Any] | None = None
    if stated:
        query = paging.validated({name: _time_of(name, text) for name, text in stated.items()}, paging.SearchQuery)
        page = searching.found(query)
        for hit in page["hits"]:
            hit["pieces"] = list(snippets.parted(hit["snippet"]))
            hit["goes_on"] = hit["snippet"].starts_at + len(hit["snippet"].text) < (hit["length"] or 0)
    onward = url_for("pages_search.search", **{**stated, "cursor": page["next"]}) if page and page["next"] else None
    return pages.render("search.html", stated=stated, page=page, onward=onward)


def _stated() -> dict[str, str]:
    """Return what the form states; a browser sends the fields that were left empty as well."""
    return {name: text for name, text in request.args.items() if text.strip()}


def _time_of(name: str, text: str) -> str:
    """Return a day, which is all that a browser's field gives, as the time at which it begins."""
    return f"{text}T00:00:00Z" if name in {"from", "to"} and _DATE.fullmatch(text) else text
