"""The application with three more routes, whose caller is in the query string: limits without authentication."""

from flask import Flask, request

from app import create_app as create_service
from conversation.access import limits, open_to_all
from conversation.keys.callers import Caller, CallerKind
from conversation.settings import Settings

KINDS: dict[str, CallerKind] = {
    "machine": "machine", "operator": "operator", "secret": "secret", "publishable": "publishable", "user": "user",
}  # fmt: skip


def create_app(settings: Settings | None = None) -> Flask:
    app = create_service(settings)

    @app.post("/call")
    @open_to_all
    def call() -> str:
        limits.count_address()
        limits.count_call(_caller())
        return request.remote_addr or ""

    @app.post("/session")
    @open_to_all
    def session() -> str:
        limits.check_sessions(_caller())
        limits.count_session(_caller())
        return "created"

    @app.post("/refused")
    @open_to_all
    def refused() -> str:
        limits.count_address()
        limits.count_refusal()
        return "refused"

    return app


def _caller() -> Caller:
    who = request.args
    kind = KINDS[who.get("kind", "publishable")]
    name = who.get("name", "one")
    user = name if kind == "user" else None
    return Caller(kind, who.get("project", "p"), frozenset({"log"}), key_id=name, user_id=user)
