"""The spellings that existing frontends already call, over the same repository.

They send the ids they made up themselves and expect them back, so `session_id` is answered as it was given.
"""

from flask import Blueprint, Response, jsonify

from conversation import access
from conversation.api import http, interaction_schemas, problems, schemas
from conversation.api.interactions import interaction_ids
from conversation.api.openapi import describe
from conversation.api.sessions import session_ids
from logging_store.records.models import Interaction, Session

blueprint = Blueprint("compat", __name__)

_SEVERAL = 'Send several with POST /v1/interactions/batch as {"interactions": […]}'


@blueprint.post("/session/create")
@access.requires("log", restricted=True)
@describe(
    "Create a session (older spelling)",
    Session,
    {201: schemas.SessionNamed, 200: schemas.SessionNamed, 202: schemas.SessionNamed},
)
def create_session() -> Response:
    stated = http.read_record(Session)
    kept = http.repository(creating_session=True).ensure_session(stated)
    if not kept.receipt.acknowledged:
        return problems.refused(kept.receipt, session_ids(kept))
    answer = jsonify(
        session_id=stated.session_id or kept.session.id, receipt=kept.receipt.receipt, **http.session_token(kept)
    )
    answer.status_code = http.status_of(kept.receipt)
    return answer


@blueprint.post("/interaction/log")
@access.requires("log", restricted=True)
@describe(
    "Log an interaction (older spelling)",
    Interaction,
    {
        201: interaction_schemas.InteractionNamed,
        200: interaction_schemas.InteractionNamed,
        202: interaction_schemas.InteractionNamed,
    },
)
def log_interaction() -> Response:
    stated = http.read_record(Interaction, _SEVERAL)
    (kept,) = http.repository().log([stated])
    if not kept.receipt.acknowledged or kept.interaction is None:
        return problems.refused(kept.receipt, interaction_ids(kept))
    answer = jsonify(
        session_id=stated.session_id or kept.session.id,
        interaction_id=stated.interaction_id or kept.interaction.id,
        receipt=kept.receipt.receipt,
    )
    answer.status_code = http.status_of(kept.receipt)
    return answer
