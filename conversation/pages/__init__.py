"""The web pages: what people look at.

Made on the server, whole without JavaScript; nothing of them is fetched from anywhere else. They ask the log as the API
does, as the one who signed in. What people said is others' text here: it is escaped, never a part of a page.
"""

from http import HTTPStatus
from typing import Any, NamedTuple

from flask import Flask, Response, redirect, render_template, request, url_for
from flask_bootstrap import Bootstrap5
from werkzeug.exceptions import HTTPException

from conversation import access, refusals
from conversation.access import Scope
from conversation.api import problems
from conversation.pages import jinja_filters
from conversation.problem_codes import ProblemCode

#: What a page says after something was done: the address carries the name, never the text.
SAID = {
    "signed-out": "You are signed out.",
    "feedback-kept": "Your feedback is kept.",
    "feedback-older": "Not taken, or not all of it: a later word of yours is stored.",
    "feedback-waits": "Your feedback is kept on this machine until the store is back.",
    "nothing-said": "Nothing was said: choose a thumb or a score, or write a note.",
    "key-revoked": "The key is revoked. It stops within half a minute.",
    "letter-stored": "The dead letter was sent again, and is stored.",
    "letter-spooled": "The store is away: the dead letter waits in the spool again.",
    "letter-erased": "The dead letter was of somebody who was erased, so it is gone.",
    "letter-discarded": "The dead letter is discarded.",
}


class Link(NamedTuple):
    endpoint: str
    text: str
    scope: Scope = "read"
    restricted: bool = False


_LINKS = (
    Link("pages_overview.overview", "Overview"),
    Link("pages_sessions.sessions", "Sessions", restricted=True),
    Link("pages_live.live", "Live"),
    Link("pages_search.search", "Search", restricted=True),
    Link("pages_folders.folders", "Folders"),
    Link("pages_keys.keys", "Keys", "admin"),
    Link("pages_dead_letters.dead_letters", "Dead letters", "admin"),
    Link("pages_health.health", "Health", "admin"),
)


def register(app: Flask) -> None:
    """Give an app what its pages are made with."""
    app.config["BOOTSTRAP_SERVE_LOCAL"] = True
    Bootstrap5(app)
    access.open_to_all(app.view_functions["bootstrap.static"])
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    jinja_filters.register(app)
    app.context_processor(_shared)
    app.register_error_handler(access.NotSignedIn, _ask_to_sign_in)
    problems.register_html(app, _problem)


def render(template: str, status: int = 200, **context: Any) -> Response:
    """Return a page."""
    access.treat_as_page()
    return Response(render_template(template, **context), status, content_type="text/html; charset=utf-8")


def go(endpoint: str, said: str | None = None, **values: Any) -> Response:
    """Send the browser on after it posted something, so that a reload posts nothing twice. `said`: one of `SAID`."""
    if said is not None:
        values["said"] = said
    return send_on(url_for(endpoint, **values))


def visitor() -> access.Caller:
    """Return who looks, on a page for who signed in."""
    who = access.admitted()
    assert who is not None  # noqa: S101 - nobody else sees it
    return who.caller


def sees_only_their_own() -> bool:
    """Tell whether who looks reaches only sessions of their own."""
    return visitor().is_restricted


def _problem(kind: ProblemCode, detail: str, more: dict[str, Any]) -> Response | None:
    """Return a page about a problem; None unless a page was asked for, or a person asked for what isn't there."""
    if not access.is_page():
        asked = request.accept_mimetypes
        if request.endpoint is not None or asked.quality("text/html") <= asked.quality("application/json"):
            return None
    if kind.status == HTTPStatus.SERVICE_UNAVAILABLE and request.method == "GET":
        detail = "What was logged can't be read now; what is being logged is kept meanwhile. Look again in a moment."
    facts = {"detail": detail, "fields": more.get("fields", ()), "request_id": refusals.request_id()}
    return render("problem.html", kind.status, title=kind.title, **facts)


def _ask_to_sign_in(error: HTTPException) -> Response:  # noqa: ARG001 - a handler is given it
    asked = request.full_path.removesuffix("?") if request.method == "GET" else None
    return send_on(url_for("pages_sign_in.sign_in", next=asked if asked != "/" else None))


def send_on(where: str) -> Response:
    """Let the browser get another page."""
    answer = redirect(where, HTTPStatus.SEE_OTHER)
    assert isinstance(answer, Response)  # noqa: S101 - of Flask's own class
    return answer


def _shared() -> dict[str, Any]:
    who = access.admitted()
    caller = who.caller if who else None
    return {
        "visitor": caller,
        "links": [
            link
            for link in _LINKS
            if caller and caller.may(link.scope) and (link.restricted or not caller.is_restricted)
        ],
        "said": SAID.get(request.args.get("said", "")),
    }
