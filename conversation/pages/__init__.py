"""The web pages: a log viewer for people.

The server renders them completely, so that they work without JavaScript, and they load nothing from other hosts. They
read the log as the API does, with the rights of the signed-in caller. Conversations are untrusted text: always escaped.
"""

from http import HTTPStatus
from typing import Any, NamedTuple

import flask
from flask import Flask, Response, render_template, request, url_for
from flask_bootstrap import Bootstrap5
from werkzeug.exceptions import HTTPException

from conversation import access, refusals
from conversation.access import Scope
from conversation.api import problems
from conversation.pages import jinja_filters
from conversation.refusals.codes import ProblemCode

_MAX_ACCEPT = 1000  # characters

#: Messages shown after a form was processed. The URL carries the name, never the text.
FLASH_MESSAGES = {
    "signed-out": "You are signed out.",
    "feedback-saved": "Your feedback was saved.",
    "feedback-taken-back": "Your feedback was taken back.",
    "feedback-older": "Some of your feedback wasn't saved, because newer feedback of yours is already stored.",
    "feedback-spooled": "Your feedback is saved on this machine and will be stored when the database is back.",
    "feedback-empty": "Nothing to save: choose a thumb or a score, or write a note.",
    "branch-chosen": "This is the current branch from now on.",
    "key-revoked": "The key was revoked. It stops working within 30 seconds.",
    "letter-stored": "The dead letter was resent and stored.",
    "letter-spooled": "The database is unavailable, so the dead letter is back in the spool.",
    "letter-erased": "The dead letter belonged to an erased session or user, so it was deleted.",
    "letter-discarded": "The dead letter was discarded.",
}


class MenuEntry(NamedTuple):
    """An entry of the menu, shown to callers with its scope; `restricted`: also to those who see only their own."""

    endpoint: str
    text: str
    scope: Scope = "read"
    restricted: bool = False


_MENU = (
    MenuEntry("pages_overview.overview", "Overview"),
    MenuEntry("pages_sessions.sessions", "Sessions", restricted=True),
    MenuEntry("pages_live.live", "Live"),
    MenuEntry("pages_search.search", "Search", restricted=True),
    MenuEntry("pages_folders.folders", "Folders"),
    MenuEntry("pages_keys.keys", "Keys", "admin"),
    MenuEntry("pages_dead_letters.dead_letters", "Dead letters", "admin"),
    MenuEntry("pages_health.health", "Health", "admin"),
)


def register(app: Flask) -> None:
    """Set up an app for pages: Bootstrap, template filters, and the sign-in form for unauthenticated visitors."""
    app.config["BOOTSTRAP_SERVE_LOCAL"] = True
    Bootstrap5(app)
    access.open_to_all(app.view_functions["bootstrap.static"])
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    jinja_filters.register(app)
    app.context_processor(_template_context)
    app.register_error_handler(access.NotSignedIn, _redirect_to_sign_in)
    problems.register_html(app, _problem)


def render(template: str, status: int = 200, **context: Any) -> Response:
    """Return a page."""
    access.treat_as_page()
    return Response(render_template(template, **context), status, content_type="text/html; charset=utf-8")


def redirect_after_post(endpoint: str, message: str | None = None, **values: Any) -> Response:
    """Redirect after a form, so that a reload posts nothing twice. `message`: a name of `FLASH_MESSAGES`."""
    if message is not None:
        values["message"] = message
    return redirect(url_for(endpoint, **values))


def visitor() -> access.Caller:
    """Return the signed-in caller, on a page that needs a sign-in."""
    auth = access.auth_context()
    assert auth is not None  # noqa: S101 - the gate lets nobody else in
    return auth.caller


def is_restricted() -> bool:
    """Return whether the visitor reaches only sessions of their own."""
    return visitor().is_restricted


def _problem(kind: ProblemCode, detail: str, more: dict[str, Any]) -> Response | None:
    """Render a problem as a page; return None unless the request is for a page, or a browser's without a route."""
    if not access.is_page() and (request.endpoint is not None or not _prefers_html()):
        return None
    title = kind.title
    if request.endpoint is None:  # a person wants no list of the API's routes
        title, detail = "Page Not Found", "There is no page at this address."
    reconnecting = None
    if kind.status == HTTPStatus.SERVICE_UNAVAILABLE and request.method == "GET":
        detail = "The log can't be read now. New records are still accepted."
        if kind.code == "store-reconnecting":
            reconnecting = more["retry_after"]
        else:
            detail = f"{detail} Try again in a moment."
    facts = {"detail": detail, "fields": more.get("fields", ()), "request_id": refusals.request_id()}
    return render("problem.html", kind.status, title=title, reconnecting=reconnecting, **facts)


def _prefers_html() -> bool:
    # anybody may send 32 KB of kinds; no browser does
    if len(request.headers.get("Accept", "")) > _MAX_ACCEPT:
        return False
    asked = request.accept_mimetypes
    return bool(asked.quality("text/html") > asked.quality("application/json"))


def _redirect_to_sign_in(error: HTTPException) -> Response:  # noqa: ARG001 - the signature of a handler
    path = request.full_path.removesuffix("?") if request.method == "GET" else None
    return redirect(url_for("pages_sign_in.sign_in", next=path if path != "/" else None))


def redirect(url: str) -> Response:
    """Redirect the browser, which then gets the page, whatever the method of this request."""
    response = flask.redirect(url, HTTPStatus.SEE_OTHER)
    assert isinstance(response, Response)  # noqa: S101 - Flask's own class
    return response


def _template_context() -> dict[str, Any]:
    auth = access.auth_context()
    caller = auth.caller if auth else None
    return {
        "visitor": caller,
        "menu": [
            entry
            for entry in _MENU
            if caller and caller.may(entry.scope) and (entry.restricted or not caller.is_restricted)
        ],
        "message": FLASH_MESSAGES.get(request.args.get("message", "")),
    }
