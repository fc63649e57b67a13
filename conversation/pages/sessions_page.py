"""The list of sessions, with filters, three sort orders, and a count."""

from typing import Literal

from flask import Blueprint, Response

from conversation import access, pages
from conversation.api import caller, cursors, pagination
from conversation.pages import forms
from logging_store import operations as ops
from logging_store.log_reader import NamedSessionsQuery
from logging_store.repository import ConversationRepository

blueprint = Blueprint("pages_sessions", __name__)

SESSIONS = 50  # of a page; the interactions of each are counted
_MAX_CALLS = 4  # of the store, each of which examines a bounded number of sessions
_SORTS = {"newest": "Newest", "oldest": "Oldest", "activity": "Last active"}
#: The label of each filter's chip, in the order of the form.
_FILTERS = {
    "name": "title or key",
    "user_id": "user",
    "folder": "folder",
    "tag": "tag",
    "model": "model",
    "status": "status",
    "has_errors": "failed interactions",
    "implicit": "auto-created",
    "begun": "started",
    "untagged": "without a tag",
    "rating": "rated up",
    "unrated": "unrated",
    "min_turns": "interactions, at least",
    "max_turns": "interactions, at most",
    "from": "from",
    "to": "to",
}


_METADATA = "metadata."  # before the key in a parameter's name


class Query(pagination.SessionQuery):
    """As in the API, without the order by id, which tells people nothing."""

    sort: Literal["newest", "oldest", "activity"] = "newest"


@blueprint.get("/sessions")
@access.page("read", restricted=True, heavy=access.filtered)
def sessions() -> Response:
    log = caller.repository()
    query, errors = forms.read_with_times(Query)
    parameters = forms.without(forms.parameters(), "cursor", *errors)
    found, after = _find(log, query.to_json())
    metadata = {name: value for name, value in parameters.items() if name.startswith(_METADATA)}
    filters = {name: parameters[name] for name in _FILTERS if name in parameters} | metadata
    return pages.render(
        "sessions.html",
        422 if errors else 200,
        errors=errors,
        sessions=found,
        matching=None if query.after else log.count_sessions(query.to_json()),
        filters=filters,
        metadata=[(name.removeprefix(_METADATA), value) for name, value in metadata.items()],
        chips=[
            (_FILTERS.get(name, name.removeprefix(_METADATA)), value, forms.without(parameters, name))
            for name, value in filters.items()
        ],
        parameters=parameters,
        sorts=_SORTS,
        sort=query.sort,
        times=forms.times(query.not_before, query.before),
        next=cursors.session_cursor(after),
        searched_to=after["at"] if after and len(found) < SESSIONS else None,
        is_first=query.after is None,
    )


def _find(log: ConversationRepository, query: NamedSessionsQuery) -> tuple[list[ops.Session], ops.SessionCursor | None]:
    """Return a page of sessions and the cursor after it; a search for rare ones may end early, with a short page."""
    found: list[ops.Session] = []
    for _ in range(_MAX_CALLS):
        page = log.sessions({**query, "limit": SESSIONS - len(found)})
        found += page["sessions"]
        query = {**query, "after": page["after"]}
        if page["after"] is None or len(found) == SESSIONS:
            break
    return found, page["after"]
