"""The list of sessions."""

from flask import Blueprint, Response, request

from conversation import access, http, pages, paging

blueprint = Blueprint("pages_sessions", __name__)


@blueprint.get("/sessions")
@access.page("read", restricted=True)
def sessions() -> Response:
    page = http.repository().sessions(paging.read(request, paging.SessionQuery).to_json())
    return pages.render("sessions.html", sessions=page["sessions"], next=paging.session_cursor(page["after"]))
