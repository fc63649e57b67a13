"""Liveness (is the process up?) and readiness (would a write be stored?)."""

import logging
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from flask import Blueprint, Response, current_app, jsonify

from conversation import access
from conversation.api import caller, schemas
from conversation.api.openapi import describe
from conversation.settings import Settings
from logging_store.errors import (
    Misconfigured,
    SchemaMissing,
    SpoolFull,
    StoreReadOnly,
    StoreReconnecting,
    StoreUnavailable,
)
from logging_store.store import Backlog, Store

_log = logging.getLogger("turnlog.health")

blueprint = Blueprint("health", __name__)


class StoreHealth(NamedTuple):
    """The store's state: `settings` as `Store.ping` returns them, or the error that it raised."""

    status: Literal["writable", "degraded", "full"]
    backlog: Backlog
    settings: Mapping[str, Any]
    error: StoreUnavailable | Misconfigured | None = None


def check_store(store: Store) -> StoreHealth:
    """Return whether a write would be stored (writable), spooled (degraded) or refused (full)."""
    backlog = store.backlog()
    try:
        return StoreHealth("writable", backlog, store.ping())
    except (StoreUnavailable, Misconfigured) as error:
        return StoreHealth("degraded" if backlog.has_room else "full", backlog, {}, error)


@blueprint.get("/livez")
@access.open_to_all
@describe("The process is up", None, {200: schemas.Liveness})
def livez() -> Response:
    return jsonify(status="alive")


@blueprint.get("/readyz")
@access.open_to_all
@describe("Would a write be stored, spooled or refused?", None, {200: schemas.Readiness, 503: schemas.Readiness})
def readyz() -> Response:
    configured: Settings = current_app.extensions["turnlog_settings"]
    health = check_store(caller.repository().store)
    backlog, error = health.backlog, health.error
    body: dict[str, Any] = {"status": health.status, "store": configured.store_kind}
    if error is None:
        body["schema_version"] = health.settings["schema"]
    elif isinstance(error, SchemaMissing | StoreReadOnly):
        body["reason"] = str(error)
    elif isinstance(error, StoreReconnecting):
        body["reason"] = "Supabase's API is reconnecting to its database, which takes up to half a minute"
    elif isinstance(error, Misconfigured):
        # the route is open, and the database's message names its users
        _log.error("store: %s", error)
        body["reason"] = "The store is not set up for Turnlog; its operator finds the cause in the log"
    body["spool"] = {"records": backlog.records, "bytes": backlog.bytes, "oldest_s": round(backlog.oldest_s, 1)}
    body["dead_letters"] = backlog.dead_letters
    body["of_other_databases"] = backlog.others
    response = jsonify(body)
    if body["status"] == "full":
        response.status_code = 503
        response.headers["Retry-After"] = str(SpoolFull.retry_after)
    return response
