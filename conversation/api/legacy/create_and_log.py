"""`/session/create` and `/interaction/log`, as older frontends call them, over the same log.

These frontends generate ids and expect them back, so the response repeats the ids as they were sent.
"""

from datetime import datetime
from typing import Annotated

from flask import Blueprint, Response, jsonify
from pydantic import Field

from conversation import access
from conversation.api import caller, problems, requests, responses
from conversation.api.interactions import interaction_ids
from conversation.api.openapi import describe
from conversation.api.schemas import Acknowledged, Altered, ResponseModel
from conversation.api.sessions import session_ids
from logging_store.records.models import Interaction, Session

blueprint = Blueprint("compat", __name__)

_SEVERAL = 'Send several with POST /v1/interactions/batch as {"interactions": […]}'


class LegacySession(ResponseModel):
    """`session_id` is repeated as it was sent."""

    session_id: str
    receipt: Acknowledged
    altered: Altered
    session_token: Annotated[str | None, Field(description="Authorises a browser to append to this session")] = None
    session_token_expires_at: datetime | None = None


class LegacyInteraction(ResponseModel):
    """The ids are repeated as they were sent."""

    session_id: str
    interaction_id: str
    receipt: Acknowledged
    altered: Altered


@blueprint.post("/session/create")
@access.requires("log", restricted=True)
@describe(
    "Create a session (older route)",
    Session,
    {201: LegacySession, 200: LegacySession, 202: LegacySession},
)
def create_session() -> Response:
    record = caller.read_record(Session)
    result = caller.repository(creating_session=True).ensure_session(record)
    if not result.receipt.acknowledged:
        return problems.receipt_problem(result.receipt, session_ids(result))
    response = jsonify(
        session_id=record.session_id or result.session.id,
        receipt=result.receipt.receipt,
        **requests.altered(),
        **caller.session_token(result),
    )
    response.status_code = responses.status_of(result.receipt)
    return response


@blueprint.post("/interaction/log")
@access.requires("log", restricted=True)
@describe(
    "Log an interaction (older route)",
    Interaction,
    {
        201: LegacyInteraction,
        200: LegacyInteraction,
        202: LegacyInteraction,
    },
)
def log_interaction() -> Response:
    record = caller.read_record(Interaction, _SEVERAL)
    (result,) = caller.repository().log([record])
    if not result.receipt.acknowledged or result.interaction is None:
        return problems.receipt_problem(result.receipt, interaction_ids(result))
    response = jsonify(
        session_id=record.session_id or result.session.id,
        interaction_id=record.interaction_id or result.interaction.id,
        receipt=result.receipt.receipt,
        **requests.altered(),
    )
    response.status_code = responses.status_of(result.receipt)
    return response
