"""Two different questions: is the process up, and would a write be kept?"""

from flask import Blueprint, Response, current_app, jsonify

from conversation import answers, http, problems
from conversation.openapi import describe
from conversation.settings import Settings
from logging_store.errors import Misconfigured

blueprint = Blueprint("health", __name__)


@blueprint.get("/livez")
@describe("The process is up", None, {200: answers.Liveness})
def livez() -> Response:
    return jsonify(status="alive")


@blueprint.get("/readyz")
@describe("The store answers, and keeps what it acknowledges", None, {200: answers.Readiness})
def readyz() -> Response:
    configured: Settings = current_app.extensions["turnlog_settings"]
    try:
        settings = http.repository().store.ping()
    except Misconfigured as error:
        return problems.problem(503, "Store Misconfigured", str(error))
    return jsonify(status="writable", store=configured.store_kind, schema_version=settings["schema"])
