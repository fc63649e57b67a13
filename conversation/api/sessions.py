"""Sessions: create, list, get, edit, read the transcript, find gaps."""

from collections.abc import Sequence
from typing import Annotated, Any, cast

from flask import Blueprint, Response, jsonify, request, url_for
from pydantic import Field

from conversation import access
from conversation.api import caller, cursors, interactions, pagination, problems, requests, responses, schemas
from conversation.api.openapi import describe
from logging_store import operations as ops
from logging_store.log_reader import NamedSessionsByIdQuery, NamedSessionsQuery
from logging_store.records.models import (
    MAX_PARTICIPANTS,
    InteractionChanges,
    ParticipantInput,
    Session,
    SessionChanges,
)
from logging_store.repository import WriteResult

blueprint = Blueprint("sessions", __name__)

RESPONSES: dict[int, type[schemas.ResponseModel]] = {
    201: schemas.SessionStored,
    200: schemas.SessionStored,
    207: schemas.SessionStored,
    202: schemas.SessionSpooled,
}


class SessionWithParticipants(Session):
    """A session with its participants, ensured in one transaction."""

    participants: Annotated[list[ParticipantInput], Field(max_length=MAX_PARTICIPANTS, default_factory=list)]


def session_ids(result: WriteResult) -> dict[str, Any]:
    return {"session_id": result.session.id, "key": result.session.key}


@blueprint.post("/v1/sessions")
@access.requires("log", restricted=True)
@describe("Create a session, with its participants, unless it is there", SessionWithParticipants, RESPONSES)
def create_session() -> Response:
    record = caller.read_record(SessionWithParticipants)
    requests.require_proportion(len(record.participants), (each.participant for each in record.participants))
    return session_response(
        caller.repository(creating_session=True).open_session(record, record.participants), record.participants
    )


def session_response(results: Sequence[WriteResult], participants: Sequence[ParticipantInput] = ()) -> Response:
    """Return the response about a session and its participants. `results`: the session's, then one per participant."""
    session, *participant_results = results
    receipts = [
        {
            "participant": participant.participant,
            "receipt": one.receipt.receipt,
            "fields": one.receipt.fields,
            "reason": one.receipt.reason,
        }
        for participant, one in zip(participants, participant_results, strict=True)
    ]
    with_participants: dict[str, Any] = {"participants": receipts} if receipts else {}
    if not session.receipt.acknowledged:
        return problems.receipt_problem(session.receipt, session_ids(session) | with_participants)
    body = session_ids(session) | {"receipt": session.receipt.receipt, "fields": session.receipt.fields}
    if token := caller.session_token(session):
        body |= token
    elif session.receipt.session:
        body["session"] = schemas.SessionView.arrange(session.receipt.session)
    body |= requests.altered() | with_participants
    status = (
        responses.status_of(session.receipt) if all(one.receipt.acknowledged for one in participant_results) else 207
    )
    response = responses.json_response(status, body)
    if session.receipt.receipt == "created":
        response.headers["Location"] = url_for("sessions.get_session", session=session.session.id)
    return response


@blueprint.get("/v1/sessions")
@access.requires("read", restricted=True, heavy=access.filtered)
@describe("List sessions", None, {200: schemas.SessionPage}, query=pagination.SessionQuery)
def list_sessions() -> Response:
    params = pagination.read(request, pagination.SessionQuery)
    repository, query = caller.repository(), params.to_json()
    rows: list[ops.Session]
    if params.sort == "id":
        by_id = repository.sessions_by_id(by_id_query(query))
        rows, cursor = by_id["sessions"], cursors.sessions_by_id_cursor(by_id["after"])
    else:
        page = repository.sessions(query)
        rows, cursor = page["sessions"], cursors.session_cursor(page["after"])
    body: dict[str, Any] = {"matching": repository.count_sessions(query)} if params.count else {}
    return jsonify(sessions=[schemas.SessionView.arrange(row) for row in rows], next=cursor, **body)


def by_id_query(query: NamedSessionsQuery) -> NamedSessionsByIdQuery:
    """Return the query of a list as one by id, whose cursor is the id alone."""
    after = query.get("after")
    others = {name: value for name, value in query.items() if name not in {"sort", "after"}}
    return cast("NamedSessionsByIdQuery", others | {"after": after["session_id"] if after else None})


@blueprint.get("/v1/sessions/<name:session>")
@access.requires("read", restricted=True)
@describe("Get a session", None, {200: schemas.SessionView})
def get_session(session: str) -> Response:
    return jsonify(schemas.SessionView.arrange(caller.repository().session(session)))


@blueprint.patch("/v1/sessions/<name:session>")
@access.requires("edit")
@describe("Edit a session", SessionChanges, {200: schemas.SessionView})
def edit_session(session: str) -> Response:
    return jsonify(
        schemas.SessionView.arrange(caller.repository().edit(session, requests.read(SessionChanges, replaces=False)))
    )


@blueprint.get("/v1/sessions/<name:session>/interactions")
@access.requires("read", restricted=True)
@describe(
    "Read a session's transcript, in order: its current branch, or all of it",
    None,
    {200: interactions.Transcript},
    query=pagination.TranscriptQuery,
)
def get_transcript(session: str) -> Response:
    return _transcript(session, pagination.read(request, pagination.TranscriptQuery))


@blueprint.patch("/v1/sessions/<name:session>/interactions/<name:interaction>")
@access.requires("edit")
@describe(
    "Choose an interaction among its alternatives; the answer is the branch that is current then",
    InteractionChanges,
    {200: interactions.Transcript},
)
def choose_interaction(session: str, interaction: str) -> Response:
    requests.read(InteractionChanges)
    caller.repository().choose(session, interaction)
    return _transcript(session, pagination.TranscriptQuery())


def _transcript(session: str, query: pagination.TranscriptQuery) -> Response:
    page = caller.repository().branch(session, query.to_json())
    return jsonify(
        session_id=page["session"]["session_id"],
        key=page["session"]["key"],
        interactions=[interactions.InteractionView.arrange(row) for row in page["interactions"]],
        complete=page["complete"],
        next=cursors.transcript_cursor(page["after"]),
    )


@blueprint.get("/v1/sessions/<name:session>/gaps")
@access.requires("read", restricted=True)
@describe("Find gaps in a session's turns", None, {200: interactions.Gaps}, query=pagination.GapsQuery)
def get_gaps(session: str) -> Response:
    ranges = pagination.read(request, pagination.GapsQuery).limit
    return jsonify(interactions.Gaps.arrange(caller.repository().gaps(session, ranges)))
