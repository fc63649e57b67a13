"""The interactions of all sessions: live as they arrive, or those of a span of time."""

from flask import Blueprint, Response

from conversation import access, pages
from conversation.api import caller, cursors, pagination
from conversation.pages import forms

blueprint = Blueprint("pages_live", __name__)

INTERACTIONS = 50


@blueprint.get("/live")
@access.page("read")
def live() -> Response:
    query, errors = forms.read_with_times(pagination.RecentQuery)
    filters = forms.without(forms.parameters(), "cursor", *errors)
    in_span = query.not_before is not None or query.before is not None
    page = caller.repository().recent(query.to_json() | {"limit": INTERACTIONS})
    return pages.render(
        "live.html",
        422 if errors else 200,
        errors=errors,
        interactions=page["interactions"],
        filters=filters,
        # a filter without a field in the form
        chips=[("error", query.error, forms.without(filters, "error"))] if query.error else [],
        next=cursors.interaction_cursor(page["after"]),
        searched_to=page["after"]["at"] if page["after"] and len(page["interactions"]) < INTERACTIONS else None,
        times=forms.times(query.not_before, query.before),
        in_span=in_span,
        is_first=query.after is None,
        is_live=query.after is None and not in_span,
    )
