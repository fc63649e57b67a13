"""The feedback's endpoints: what people say of an interaction, and may say otherwise later."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from flask import Blueprint, Response, jsonify, request
from pydantic import Field

from conversation import access
from conversation.api import cursors, http, pagination, problems, requests, schemas
from conversation.api.openapi import describe
from logging_store.records import json_schema
from logging_store.records.models import Feedback, FeedbackInput

blueprint = Blueprint("feedback", __name__)

_Value = Annotated[Any, json_schema.DocumentedAs(json_schema.FeedbackValue)]


class FeedbackKept(schemas.Answer):
    """`fields` are those that are different now."""

    session_id: UUID
    session_key: str | None
    interaction_id: UUID
    interaction_key: str | None
    author: str | None
    name: str
    receipt: schemas.Kept
    fields: list[str]


class FeedbackView(schemas.Answer):
    interaction_id: UUID
    interaction_key: str | None
    author: Annotated[str | None, Field(description="Null: whom the session is with")]
    name: str
    value: _Value
    comment: str | None
    given_at: datetime
    created_at: datetime
    spooled: bool


class FeedbackPage(schemas.Answer):
    session_id: UUID
    key: str | None
    feedback: list[FeedbackView]
    next: str | None


_KEPT = {201: FeedbackKept, 200: FeedbackKept, 202: FeedbackKept}


@blueprint.post("/v1/feedback")
@access.requires("log", restricted=True)
@describe("Say something of an interaction, or say it otherwise; the session is ensured", Feedback, _KEPT)
def give_feedback() -> Response:
    return keep(http.read_record(Feedback))


@blueprint.post("/v1/sessions/<name:session>/interactions/<name:interaction>/feedback")
@access.requires("log", restricted=True)
@describe("Say something of an interaction, or say it otherwise; the session is ensured", FeedbackInput, _KEPT)
def give_feedback_of(session: str, interaction: str) -> Response:
    stated = http.read_record(FeedbackInput).model_dump(mode="json", exclude_unset=True)
    return keep(requests.validate(Feedback, stated | {"session_id": session, "interaction_id": interaction}))


@blueprint.get("/v1/sessions/<name:session>/feedback")
@access.requires("read", restricted=True)
@describe(
    "List what was said of a session's interactions, in the order of their ids",
    None,
    {200: FeedbackPage},
    query=pagination.FeedbackQuery,
)
def list_feedback(session: str) -> Response:
    page = http.repository().feedback(session, pagination.read(request, pagination.FeedbackQuery).to_json())
    return jsonify(
        session_id=page["session"]["session_id"],
        key=page["session"]["key"],
        feedback=[FeedbackView.arrange(row) for row in page["feedback"]],
        next=cursors.feedback_cursor(page["after"]),
    )


def keep(stated: Feedback) -> Response:
    (kept,) = http.repository().write([stated])
    assert kept.interaction is not None  # noqa: S101 - of which it was said
    who = access.auth_context()
    author = stated.author or (who.claims.author if who and who.claims else None)
    told = {
        "session_id": kept.session.id,
        "session_key": kept.session.key,
        "interaction_id": kept.interaction.id,
        "interaction_key": kept.interaction.key,
        "author": author,
        "name": stated.name,
    }
    if not kept.receipt.acknowledged:
        return problems.refused(kept.receipt, told)
    return http.answer(
        http.status_of(kept.receipt), told | {"receipt": kept.receipt.receipt, "fields": kept.receipt.fields}
    )
