"""Erasing: one session, or everything about a user."""

from typing import Literal

from flask import Blueprint, Response, jsonify, request
from pydantic import BaseModel, ConfigDict, Field

from conversation import access, answers, body, http, paging
from conversation.openapi import describe
from logging_store.values import Name

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
@describe("Erase a session; a tombstone stays", None, {200: answers.Erased}, query=ErasureQuery)
def erase_session(session: str) -> Response:
    return jsonify(answers.Erased.arrange(http.repository().erase(session, dry_run=_is_dry_run())))


@blueprint.delete("/v1/users/<name:user>")
@access.requires("erase")
@describe(
    "Erase everything about a user; called again, it goes on where it was cut",
    None,
    {200: answers.UserErased},
    query=ErasureQuery,
)
def erase_user(user: str) -> Response:
    report = http.repository().erase_user(named_user(user), dry_run=_is_dry_run())
    return jsonify(answers.UserErased.arrange(report))


def named_user(user: str) -> str:
    """Return a user's name as a path has it. Raises `InvalidBody` if it can be no name."""
    return body.validate(_User, {"user": user}).user


def _is_dry_run() -> bool:
    return paging.read(request, ErasureQuery).dry_run == "true"
