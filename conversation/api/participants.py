"""Participants of a session: their role and their state."""

from flask import Blueprint, Response, jsonify

from conversation import access
from conversation.api import caller, problems, requests, responses, schemas
from conversation.api.openapi import describe
from logging_store.records.models import Participant, ParticipantDetails

blueprint = Blueprint("participants", __name__)


@blueprint.get("/v1/sessions/<name:session>/participants")
@access.requires("read", restricted=True)
@describe("List a session's participants", None, {200: schemas.Participants})
def list_participants(session: str) -> Response:
    found = caller.repository().participants(session)
    return jsonify(
        session_id=found["session"]["session_id"],
        key=found["session"]["key"],
        participants=[schemas.ParticipantView.arrange(row) for row in found["participants"]],
    )


@blueprint.put("/v1/sessions/<name:session>/participants/<name:participant>")
@access.requires("log")
@describe(
    "Add a participant to a session, or move their state forward; the session is ensured in the same transaction",
    ParticipantDetails,
    {201: schemas.ParticipantResult, 200: schemas.ParticipantResult, 202: schemas.ParticipantResult},
)
def put_participant(session: str, participant: str) -> Response:
    fields = caller.read_record(ParticipantDetails).model_dump(exclude_unset=True)
    record = requests.validate(Participant, fields | {"session_id": session, "participant": participant})
    (result,) = caller.repository().write([record])
    body = {"session_id": result.session.id, "key": result.session.key, "participant": participant}
    if not result.receipt.acknowledged:
        return problems.receipt_problem(result.receipt, body)
    return responses.json_response(
        responses.status_of(result.receipt), body | {"receipt": result.receipt.receipt, "fields": result.receipt.fields}
    )
