"""Spans of an interaction's trace, as OpenTelemetry has them: what happened around a call of a model."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from flask import Blueprint, Response, jsonify, request
from pydantic import Field

from conversation import access
from conversation.api import caller, pagination
from conversation.api.openapi import describe
from conversation.api.schemas import ResponseModel

blueprint = Blueprint("traces", __name__)


class SpanView(ResponseModel):
    """`parent_id`: the span that it is below, which may not be among them."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str | None
    kind: Annotated[str | None, Field(description="`call`, `agent`, `workflow`, `tool`, `retriever` or another one")]
    scope: Annotated[str | None, Field(description="The instrumentation that made it")]
    started_at: datetime | None
    completed_at: datetime | None
    failed: bool
    interaction_id: Annotated[UUID | None, Field(description="Of a call of a model: its interaction")]
    is_own: Annotated[bool, Field(description="It is this interaction; several instrumentations may have seen it")]


class Spans(ResponseModel):
    """In the order in which they began. Not `complete`: the trace has more, farther away in time."""

    session_id: UUID
    session_key: str | None
    interaction_id: UUID
    interaction_key: str | None
    spans: list[SpanView]
    complete: bool


@blueprint.get("/v1/sessions/<name:session>/interactions/<name:interaction>/spans")
@access.requires("read", restricted=True)
@describe(
    "List the spans of an interaction's trace: agents, tools and other calls around it",
    None,
    {200: Spans},
    query=pagination.SpansQuery,
)
def list_spans(session: str, interaction: str) -> Response:
    query = pagination.read(request, pagination.SpansQuery)
    found = caller.repository().spans(session, interaction, query.limit)
    own = found["interaction"]
    return jsonify(
        session_id=found["session"]["session_id"],
        session_key=found["session"]["key"],
        interaction_id=own and own["interaction_id"],
        interaction_key=own and own["key"],
        spans=[SpanView.arrange(row) for row in found["spans"]],
        complete=found["complete"],
    )
