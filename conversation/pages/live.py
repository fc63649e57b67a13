"""Interactions as they arrive, whatever session they belong to."""

from flask import Blueprint, Response

from conversation import access, cursors, http, pages, paging
from conversation.pages import forms

blueprint = Blueprint("pages_live", __name__)

INTERACTIONS = 50


@blueprint.get("/live")
@access.page("read")
def live() -> Response:
    asked = forms.read(paging.RecentQuery)
    given = forms.asked()
    page = http.repository().recent(asked.to_json() | {"limit": INTERACTIONS})
    return pages.render(
        "live.html",
        interactions=page["interactions"],
        filters=forms.without(given, "cursor"),
        next=cursors.interaction_cursor(page["after"]),
        looked_to=page["after"]["at"] if page["after"] and len(page["interactions"]) < INTERACTIONS else None,
        is_first=asked.after is None,
    )
