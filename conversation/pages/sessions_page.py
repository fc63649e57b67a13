"""The list of sessions: filtered, in three orders, counted."""

from flask import Blueprint, Response

from conversation import access, pages
from conversation.api import cursors, http, pagination
from conversation.pages import forms
from logging_store import operations as ops
from logging_store.log_reader import NamedSessionsQuery
from logging_store.repository import ConversationRepository

blueprint = Blueprint("pages_sessions", __name__)

SESSIONS = 50  # of a page: each has its interactions counted
_LOOKS = 4  # calls of the store, each of which looks at a bounded number of sessions
_SORTS = {"newest": "Newest", "oldest": "Oldest", "activity": "Last active"}
#: What each filter is called on the page, in the order of the form.
_FILTERS = {
    "name": "title or key",
    "user_id": "user",
    "folder": "folder",
    "tag": "tag",
    "model": "model",
    "status": "status",
    "has_errors": "failed interactions",
    "implicit": "implicit",
    "begun": "begun",
    "from": "from",
    "to": "to",
}


@blueprint.get("/sessions")
@access.page("read", restricted=True)
def sessions() -> Response:
    log = http.repository()
    asked = forms.read(pagination.SessionQuery)
    given = forms.asked()
    found, after = _look(log, asked.to_json())
    filters = {name: given[name] for name in _FILTERS if name in given}
    kept = forms.without(given, "cursor")
    return pages.render(
        "sessions.html",
        sessions=found,
        matching=None if asked.after else log.count_sessions(asked.to_json()),
        filters=filters,
        chips=[(_FILTERS[name], value, forms.without(kept, name)) for name, value in filters.items()],
        kept=kept,
        sorts=_SORTS,
        sort=asked.sort,
        times=forms.times(asked.not_before, asked.before),
        next=cursors.session_cursor(after),
        looked_to=after["at"] if after and len(found) < SESSIONS else None,
        is_first=asked.after is None,
    )


def _look(log: ConversationRepository, query: NamedSessionsQuery) -> tuple[list[ops.Session], ops.SessionCursor | None]:
    """Return a page of sessions and the place after it; what is rare is looked for some way, not to the end."""
    found: list[ops.Session] = []
    for _ in range(_LOOKS):
        page = log.sessions({**query, "limit": SESSIONS - len(found)})
        found += page["sessions"]
        query = {**query, "after": page["after"]}
        if page["after"] is None or len(found) == SESSIONS:
            break
    return found, page["after"]
