"""Erasing: one session, or everything about a user."""

from typing import Literal

from flask import Blueprint, Response, jsonify, request
from pydantic import BaseModel, ConfigDict, Field

from conversation import access
from conversation.api import http, pagination, requests, schemas
from conversation.api.openapi import describe
from logging_store.records.values import Name

blueprint = Blueprint("erasing", __name__)


class ErasureQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    dry_run: Literal["true", "false"] = Field(default="false", description="Only count what would go")


class _User(BaseModel):
    """Who is meant by a path."""

    model_config = ConfigDict(strict=True)

    user: Name


@blueprint.delete("/v1/sessions/<name:session>")
@access.requires("erase")
@describe("Erase a session; a tombstone stays", None, {200: schemas.Erased}, query=ErasureQuery)
def erase_session(session: str) -> Response:
    return jsonify(schemas.Erased.arrange(http.repository().erase(session, dry_run=_is_dry_run())))


@blueprint.delete("/v1/users/<name:user>")
@access.requires("erase")
@describe(
    "Erase everything about a user; called again, it goes on where it was cut",
    None,
    {200: schemas.UserErased},
    query=ErasureQuery,
)
def erase_user(user: str) -> Response:
    report = http.repository().erase_user(named_user(user), dry_run=_is_dry_run())
    return jsonify(schemas.UserErased.arrange(report))


def named_user(user: str) -> str:
    """Return a user's name as a path has it. Raises `InvalidBody` if it can be no name."""
    return requests.validate(_User, {"user": user}).user


def _is_dry_run() -> bool:
    return pagination.read(request, ErasureQuery).dry_run == "true"
