"""Revisions of an interaction: what was said of it and isn't shown."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from flask import Blueprint, Response, jsonify, request
from pydantic import Field

from conversation import access
from conversation.api import caller, cursors, pagination
from conversation.api.openapi import describe
from conversation.api.schemas import ResponseModel
from logging_store import operations as ops
from logging_store.records.models import InteractionStatus

blueprint = Blueprint("revisions", __name__)


class RevisionView(ResponseModel):
    """Of the fields of an interaction those that differ from what is shown.

    `status`: the one that it was said with; null if that isn't known.
    """

    revision_id: UUID
    status: InteractionStatus | None
    fields: Annotated[list[str], Field(description="Their names; a key of the metadata is `metadata.KEY`")]
    facts: Annotated[dict[str, Any], Field(description="Their values, as an interaction has them")]
    said_at: Annotated[datetime, Field(description="Its `completed_at`, else its `started_at`, else its arrival")]
    created_at: datetime


class Revisions(ResponseModel):
    """Newest first. What is shown isn't among them."""

    session_id: UUID
    session_key: str | None
    interaction_id: UUID
    interaction_key: str | None
    revisions: list[RevisionView]
    next: str | None


@blueprint.get("/v1/sessions/<name:session>/interactions/<name:interaction>/revisions")
@access.requires("read", restricted=True)
@describe(
    "List the revisions of an interaction: what was said of it and isn't shown",
    None,
    {200: Revisions},
    query=pagination.RevisionsQuery,
)
def list_revisions(session: str, interaction: str) -> Response:
    query = pagination.read(request, pagination.RevisionsQuery)
    log = caller.repository()
    options: ops.RevisionsOptions = {"limit": query.limit}
    if query.after is not None:
        place: ops.RevisionCursor = query.after
        place["interaction_id"] = log.interaction_id(session, interaction)
        options["after"] = place
    page = log.revisions(session, interaction, options)
    (found,) = page["interactions"]
    return jsonify(
        session_id=page["session"]["session_id"],
        session_key=page["session"]["key"],
        interaction_id=found["interaction_id"],
        interaction_key=found["key"],
        revisions=[RevisionView.arrange(row) for row in page["revisions"]],
        next=cursors.revision_cursor(page["after"]),
    )
