"""The participants' endpoints: who takes part in a session, as what, and how far they have come."""

from flask import Blueprint, Response, jsonify

from conversation import access
from conversation.api import http, problems, requests, schemas
from conversation.api.openapi import describe
from logging_store.records.models import Participant, ParticipantDetails

blueprint = Blueprint("participants", __name__)


@blueprint.get("/v1/sessions/<name:session>/participants")
@access.requires("read", restricted=True)
@describe("List a session's participants", None, {200: schemas.Participants})
def list_participants(session: str) -> Response:
    found = http.repository().participants(session)
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
    {201: schemas.ParticipantKept, 200: schemas.ParticipantKept, 202: schemas.ParticipantKept},
)
def put_participant(session: str, participant: str) -> Response:
    stated = http.read_record(ParticipantDetails).model_dump(exclude_unset=True)
    record = requests.validate(Participant, stated | {"session_id": session, "participant": participant})
    (kept,) = http.repository().write([record])
    ids = {"session_id": kept.session.id, "key": kept.session.key, "participant": participant}
    if not kept.receipt.acknowledged:
        return problems.refused(kept.receipt, ids)
    return http.answer(
        http.status_of(kept.receipt), ids | {"receipt": kept.receipt.receipt, "fields": kept.receipt.fields}
    )
