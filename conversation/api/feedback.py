"""Feedback: ratings and comments on an interaction or a session, which their author may change and take back."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from flask import Blueprint, Response, jsonify, request
from pydantic import BaseModel, ConfigDict, Field

from conversation import access
from conversation.api import caller, cursors, pagination, problems, requests, responses, schemas
from conversation.api.openapi import describe
from logging_store.records import json_schema
from logging_store.records.models import Feedback, FeedbackInput
from logging_store.records.values import Name

blueprint = Blueprint("feedback", __name__)

_Value = Annotated[Any, json_schema.DocumentedAs(json_schema.FeedbackValue)]


class FeedbackResult(schemas.ResponseModel):
    """`fields` are those that this call changed. `interaction_id`: null if the feedback is on the session."""

    session_id: UUID
    session_key: str | None
    interaction_id: UUID | None
    interaction_key: str | None
    author: str | None
    name: str
    receipt: schemas.Acknowledged
    fields: list[str]
    altered: schemas.Altered


class FeedbackView(schemas.ResponseModel):
    interaction_id: Annotated[UUID | None, Field(description="Null: on the session")]
    interaction_key: str | None
    author: Annotated[str | None, Field(description="Null: the session's user")]
    name: str
    value: Annotated[_Value, Field(description="Null: taken back")]
    comment: str | None
    given_at: datetime
    created_at: datetime
    spooled: bool


class FeedbackPage(schemas.ResponseModel):
    session_id: UUID
    key: str | None
    feedback: list[FeedbackView]
    next: str | None


class TakeBackQuery(BaseModel):
    """Whose feedback is taken back, and what it rated."""

    model_config = ConfigDict(extra="forbid")

    author: Annotated[
        Name | None,
        Field(description="Who gave it; left out, the user of the session", json_schema_extra=json_schema.not_null),
    ] = None
    name: Annotated[Name, Field(description="What was rated")] = "rating"


_RESPONSES = {201: FeedbackResult, 200: FeedbackResult, 202: FeedbackResult}


@blueprint.post("/v1/feedback")
@access.requires("log", restricted=True)
@describe(
    "Give feedback on an interaction or a session, change it or take it back; the session is ensured",
    Feedback,
    _RESPONSES,
)
def give_feedback() -> Response:
    return write_feedback(caller.read_record(Feedback))


@blueprint.post("/v1/sessions/<name:session>/interactions/<name:interaction>/feedback")
@access.requires("log", restricted=True)
@describe(
    "Give feedback on an interaction, change it or take it back; the session is ensured", FeedbackInput, _RESPONSES
)
def give_feedback_of(session: str, interaction: str) -> Response:
    fields = caller.read_record(FeedbackInput).model_dump(mode="json", exclude_unset=True)
    return write_feedback(requests.validate(Feedback, fields | {"session_id": session, "interaction_id": interaction}))


@blueprint.delete("/v1/sessions/<name:session>/interactions/<name:interaction>/feedback")
@access.requires("log", restricted=True)
@describe("Take feedback on an interaction back", None, _RESPONSES, query=TakeBackQuery)
def take_back_of(session: str, interaction: str) -> Response:
    return _take_back({"session_id": session, "interaction_id": interaction})


@blueprint.post("/v1/sessions/<name:session>/feedback")
@access.requires("log", restricted=True)
@describe("Give feedback on a session, change it or take it back; the session is ensured", FeedbackInput, _RESPONSES)
def give_feedback_of_session(session: str) -> Response:
    fields = caller.read_record(FeedbackInput).model_dump(mode="json", exclude_unset=True)
    return write_feedback(requests.validate(Feedback, fields | {"session_id": session}))


@blueprint.delete("/v1/sessions/<name:session>/feedback")
@access.requires("log", restricted=True)
@describe("Take feedback on a session back", None, _RESPONSES, query=TakeBackQuery)
def take_back_of_session(session: str) -> Response:
    return _take_back({"session_id": session})


@blueprint.get("/v1/sessions/<name:session>/feedback")
@access.requires("read", restricted=True)
@describe(
    "List the feedback on a session and on its interactions, ordered by interaction id, the session's first",
    None,
    {200: FeedbackPage},
    query=pagination.FeedbackQuery,
)
def list_feedback(session: str) -> Response:
    page = caller.repository().feedback(session, pagination.read(request, pagination.FeedbackQuery).to_json())
    return jsonify(
        session_id=page["session"]["session_id"],
        key=page["session"]["key"],
        feedback=[FeedbackView.arrange(row) for row in page["feedback"]],
        next=cursors.feedback_cursor(page["after"]),
    )


def write_feedback(record: Feedback) -> Response:
    """Store feedback and return its receipt as the response."""
    (result,) = caller.repository().write([record])
    auth = access.auth_context()
    author = record.author or (auth.claims.author if auth and auth.claims else None)
    body = {
        "session_id": result.session.id,
        "session_key": result.session.key,
        "interaction_id": result.interaction.id if result.interaction else None,
        "interaction_key": result.interaction.key if result.interaction else None,
        "author": author,
        "name": record.name,
    }
    if not result.receipt.acknowledged:
        return problems.receipt_problem(result.receipt, body)
    return responses.json_response(
        responses.status_of(result.receipt),
        body | {"receipt": result.receipt.receipt, "fields": result.receipt.fields} | requests.altered(),
    )


def _take_back(about: dict[str, str]) -> Response:
    query = pagination.read(request, TakeBackQuery)
    return write_feedback(requests.validate(Feedback, {**about, **query.model_dump(exclude_none=True), "value": None}))
