"""Two different questions: is the process up, and would a write be kept?"""

import logging
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from flask import Blueprint, Response, current_app, jsonify

from conversation import access
from conversation.api import http, schemas
from conversation.api.openapi import describe
from conversation.settings import Settings
from logging_store.errors import Misconfigured, SchemaMissing, SpoolFull, StoreUnavailable
from logging_store.store import Backlog, Store

_log = logging.getLogger("turnlog.health")

blueprint = Blueprint("health", __name__)


class Looked(NamedTuple):
    """How the store is: `settings` as `Store.ping` tells them, or why it could not."""

    status: Literal["writable", "degraded", "full"]
    backlog: Backlog
    settings: Mapping[str, Any]
    error: StoreUnavailable | Misconfigured | None = None


def look(store: Store) -> Looked:
    """Tell whether a write would be stored, spooled or refused."""
    backlog = store.backlog()
    try:
        return Looked("writable", backlog, store.ping())
    except (StoreUnavailable, Misconfigured) as error:
        return Looked("degraded" if backlog.has_room else "full", backlog, {}, error)


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
    looked = look(http.repository().store)
    backlog, error = looked.backlog, looked.error
    answer: dict[str, Any] = {"status": looked.status, "store": configured.store_kind}
    if error is None:
        answer["schema_version"] = looked.settings["schema"]
    elif isinstance(error, SchemaMissing):
        answer["reason"] = str(error)
    elif isinstance(error, Misconfigured):
        # anybody may ask, and the database's words name its users
        _log.error("store: %s", error)
        answer["reason"] = "The store is not set up for Turnlog; its operator finds the cause in the log"
    answer["spool"] = {"records": backlog.records, "bytes": backlog.bytes, "oldest_s": round(backlog.oldest_s, 1)}
    answer["dead_letters"] = backlog.dead_letters
    response = jsonify(answer)
    if answer["status"] == "full":
        response.status_code = 503
        response.headers["Retry-After"] = str(SpoolFull.retry_after)
    return response
