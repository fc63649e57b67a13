"""Erasing: one session, or everything about a user."""

from flask import Blueprint, Response, jsonify
from pydantic import BaseModel, ConfigDict

from conversation import access
from conversation.api import dry_run, http, requests, schemas
from conversation.api.openapi import describe
from logging_store.records.values import Name

blueprint = Blueprint("erasing", __name__)


class _User(BaseModel):
    """Who is meant by a path."""

    model_config = ConfigDict(strict=True)

    user: Name


@blueprint.delete("/v1/sessions/<name:session>")
@access.requires("erase")
@describe("Erase a session; a tombstone stays", None, {200: schemas.Erased}, query=dry_run.Query)
def erase_session(session: str) -> Response:
    return jsonify(schemas.Erased.arrange(http.repository().erase(session, dry_run=dry_run.requested())))


@blueprint.delete("/v1/users/<name:user>")
@access.requires("erase")
@describe(
    "Erase everything about a user; called again, it goes on where it was cut",
    None,
    {200: schemas.UserErased},
    query=dry_run.Query,
)
def erase_user(user: str) -> Response:
    report = http.repository().erase_user(named_user(user), dry_run=dry_run.requested())
    return jsonify(schemas.UserErased.arrange(report))


def named_user(user: str) -> str:
    """Return a user's name as a path has it. Raises `InvalidBody` if it can be no name."""
    return requests.validate(_User, {"user": user}).user
