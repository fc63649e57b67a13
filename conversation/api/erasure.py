"""Erasure of one session, of one interaction, or of everything about a user."""

from flask import Blueprint, Response, jsonify
from pydantic import BaseModel, ConfigDict

from conversation import access
from conversation.api import caller, dry_run, requests, schemas
from conversation.api.openapi import describe
from logging_store.records.values import Identifier, Name

blueprint = Blueprint("erasing", __name__)


class _User(BaseModel):
    """The user of a path."""

    model_config = ConfigDict(strict=True)

    user: Name


class _Interaction(BaseModel):
    """The interaction of a path."""

    model_config = ConfigDict(strict=True)

    interaction: Identifier


@blueprint.delete("/v1/sessions/<name:session>")
@access.requires("erase")
@describe("Erase a session; a tombstone stays", None, {200: schemas.Erased}, query=dry_run.Query)
def erase_session(session: str) -> Response:
    return jsonify(schemas.Erased.arrange(caller.repository().erase(session, dry_run=dry_run.requested())))


@blueprint.delete("/v1/sessions/<name:session>/interactions/<name:interaction>")
@access.requires("erase")
@describe(
    "Erase one interaction and the feedback on it; a tombstone stays",
    None,
    {200: schemas.InteractionErased},
    query=dry_run.Query,
)
def erase_interaction(session: str, interaction: str) -> Response:
    name = requests.validate(_Interaction, {"interaction": interaction}).interaction
    report = caller.repository().erase_interaction(session, name, dry_run=dry_run.requested())
    return jsonify(schemas.InteractionErased.arrange(report))


@blueprint.delete("/v1/users/<name:user>")
@access.requires("erase")
@describe(
    "Erase everything about a user; a repeated call continues after an interruption",
    None,
    {200: schemas.UserErased},
    query=dry_run.Query,
)
def erase_user(user: str) -> Response:
    report = caller.repository().erase_user(named_user(user), dry_run=dry_run.requested())
    return jsonify(schemas.UserErased.arrange(report))


def named_user(user: str) -> str:
    """Return the user id of a path. Raises `InvalidBody` if it isn't valid."""
    return requests.validate(_User, {"user": user}).user
