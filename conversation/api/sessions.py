"""The sessions' endpoints."""

from collections.abc import Sequence
from typing import Annotated, Any

from flask import Blueprint, Response, jsonify, request, url_for
from pydantic import Field

from conversation import access
from conversation.api import cursors, http, interaction_schemas, pagination, problems, requests, schemas
from conversation.api.openapi import describe
from logging_store.records.models import MAX_PARTICIPANTS, ParticipantInput, Session, SessionChanges
from logging_store.repository import WriteResult

blueprint = Blueprint("sessions", __name__)


KEPT: dict[int, type[schemas.Answer]] = {
    201: schemas.SessionKept,
    200: schemas.SessionKept,
    207: schemas.SessionKept,
    202: schemas.SessionSpooled,
}


class SessionWithParticipants(Session):
    """A session, and who takes part in it: all of it is ensured in one transaction."""

    participants: Annotated[list[ParticipantInput], Field(max_length=MAX_PARTICIPANTS, default_factory=list)]


def session_ids(kept: WriteResult) -> dict[str, Any]:
    return {"session_id": kept.session.id, "key": kept.session.key}


@blueprint.post("/v1/sessions")
@access.requires("log", restricted=True)
@describe("Create a session, with its participants, unless it is there", SessionWithParticipants, KEPT)
def create_session() -> Response:
    stated = http.read_record(SessionWithParticipants)
    return answer(http.repository(creating_session=True).open_session(stated, stated.participants), stated.participants)


def answer(all_kept: Sequence[WriteResult], participants: Sequence[ParticipantInput] = ()) -> Response:
    """Answer for a session, of which the first is, and for its participants."""
    kept, *attending = all_kept
    results = [
        {
            "participant": attendee.participant,
            "receipt": one.receipt.receipt,
            "fields": one.receipt.fields,
            "reason": one.receipt.reason,
        }
        for attendee, one in zip(participants, attending, strict=True)
    ]
    of_participants: dict[str, Any] = {"participants": results} if results else {}
    if not kept.receipt.acknowledged:
        return problems.refused(kept.receipt, session_ids(kept) | of_participants)
    told = session_ids(kept) | {"receipt": kept.receipt.receipt, "fields": kept.receipt.fields}
    if opened := http.session_token(kept):
        told |= opened
    elif kept.receipt.session:
        told["session"] = schemas.SessionView.arrange(kept.receipt.session)
    told |= of_participants
    status = http.status_of(kept.receipt) if all(one.receipt.acknowledged for one in attending) else 207
    answered = http.answer(status, told)
    if kept.receipt.receipt == "created":
        answered.headers["Location"] = url_for("sessions.get_session", session=kept.session.id)
    return answered


@blueprint.get("/v1/sessions")
@access.requires("read", restricted=True)
@describe("List sessions", None, {200: schemas.SessionPage}, query=pagination.SessionQuery)
def list_sessions() -> Response:
    asked = pagination.read(request, pagination.SessionQuery)
    repository, query = http.repository(), asked.to_json()
    page = repository.sessions(query)
    told: dict[str, Any] = {"matching": repository.count_sessions(query)} if asked.count else {}
    sessions = [schemas.SessionView.arrange(row) for row in page["sessions"]]
    return jsonify(sessions=sessions, next=cursors.session_cursor(page["after"]), **told)


@blueprint.get("/v1/sessions/<name:session>")
@access.requires("read", restricted=True)
@describe("Get a session", None, {200: schemas.SessionView})
def get_session(session: str) -> Response:
    return jsonify(schemas.SessionView.arrange(http.repository().session(session)))


@blueprint.patch("/v1/sessions/<name:session>")
@access.requires("edit")
@describe("Edit a session", SessionChanges, {200: schemas.SessionView})
def edit_session(session: str) -> Response:
    return jsonify(schemas.SessionView.arrange(http.repository().edit(session, requests.read(SessionChanges))))


@blueprint.get("/v1/sessions/<name:session>/interactions")
@access.requires("read", restricted=True)
@describe(
    "Read a session's transcript, in order",
    None,
    {200: interaction_schemas.Transcript},
    query=pagination.TranscriptQuery,
)
def get_transcript(session: str) -> Response:
    page = http.repository().transcript(session, pagination.read(request, pagination.TranscriptQuery).to_json())
    return jsonify(
        session_id=page["session"]["session_id"],
        key=page["session"]["key"],
        interactions=[interaction_schemas.InteractionView.arrange(row) for row in page["interactions"]],
        complete=page["complete"],
        next=cursors.transcript_cursor(page["after"]),
    )


@blueprint.get("/v1/sessions/<name:session>/gaps")
@access.requires("read", restricted=True)
@describe("Find gaps in a session's turns", None, {200: interaction_schemas.Gaps}, query=pagination.GapsQuery)
def get_gaps(session: str) -> Response:
    ranges = pagination.read(request, pagination.GapsQuery).limit
    return jsonify(interaction_schemas.Gaps.arrange(http.repository().gaps(session, ranges)))
