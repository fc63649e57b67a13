"""Interactions as they arrive, or those of a time, whatever session they belong to."""

from flask import Blueprint, Response

from conversation import access, pages
from conversation.api import cursors, http, pagination
from conversation.pages import forms

blueprint = Blueprint("pages_live", __name__)

INTERACTIONS = 50


@blueprint.get("/live")
@access.page("read")
def live() -> Response:
    asked = forms.read(pagination.RecentQuery)
    given = forms.asked()
    filters = forms.without(given, "cursor")
    of_a_time = asked.not_before is not None or asked.before is not None
    page = http.repository().recent(asked.to_json() | {"limit": INTERACTIONS})
    return pages.render(
        "live.html",
        interactions=page["interactions"],
        filters=filters,
        # which no field of the form shows
        chips=[("error", asked.error, forms.without(filters, "error"))] if asked.error else [],
        next=cursors.interaction_cursor(page["after"]),
        looked_to=page["after"]["at"] if page["after"] and len(page["interactions"]) < INTERACTIONS else None,
        times=forms.times(asked.not_before, asked.before),
        of_a_time=of_a_time,
        is_first=asked.after is None,
        is_live=asked.after is None and not of_a_time,
    )
