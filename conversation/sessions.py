"""The sessions' endpoints."""

from typing import Any

from flask import Blueprint, Response, jsonify, request, url_for

from conversation import access, answers, body, http, paging, problems
from conversation.openapi import describe
from logging_store.records import Session, SessionChanges
from logging_store.repository import Kept

blueprint = access.guard(Blueprint("sessions", __name__))


def session_ids(kept: Kept) -> dict[str, Any]:
    return {"session_id": kept.session.id, "key": kept.session.key}


@blueprint.post("/v1/sessions")
@describe(
    "Create a session, unless it is there",
    Session,
    {201: answers.SessionKept, 200: answers.SessionKept, 202: answers.SessionSpooled},
)
def create_session() -> Response:
    kept = http.repository().ensure_session(http.read_record(Session))
    if not kept.receipt.kept:
        return problems.refused(kept.receipt, session_ids(kept))
    answer = jsonify(
        session_ids(kept)
        | {"receipt": kept.receipt.receipt, "fields": kept.receipt.fields}
        | ({"session": answers.SessionView.arrange(kept.receipt.session)} if kept.receipt.session else {})
    )
    answer.status_code = http.status_of(kept.receipt)
    if kept.receipt.receipt == "created":
        answer.headers["Location"] = url_for(".get_session", session=kept.session.id)
    return answer


@blueprint.get("/v1/sessions")
@describe("List sessions, newest first", None, {200: answers.SessionPage}, query=paging.SessionQuery)
def list_sessions() -> Response:
    page = http.repository().sessions(paging.read(request, paging.SessionQuery).to_json())
    sessions = [answers.SessionView.arrange(row) for row in page["sessions"]]
    return jsonify(sessions=sessions, next=paging.session_cursor(page["after"]))


@blueprint.get("/v1/sessions/<session:session>")
@describe("Get a session", None, {200: answers.SessionView})
def get_session(session: str) -> Response:
    return jsonify(answers.SessionView.arrange(http.repository().session(session)))


@blueprint.patch("/v1/sessions/<session:session>")
@describe("Edit a session", SessionChanges, {200: answers.SessionView})
def edit_session(session: str) -> Response:
    return jsonify(answers.SessionView.arrange(http.repository().edit(session, body.read(SessionChanges))))


@blueprint.delete("/v1/sessions/<session:session>")
@describe("Erase a session; a tombstone stays", None, {200: answers.Erased})
def erase_session(session: str) -> Response:
    return jsonify(answers.Erased.arrange(http.repository().erase(session)))


@blueprint.get("/v1/sessions/<session:session>/interactions")
@describe("Read a session's transcript, in order", None, {200: answers.Transcript}, query=paging.TranscriptQuery)
def get_transcript(session: str) -> Response:
    page = http.repository().transcript(session, paging.read(request, paging.TranscriptQuery).to_json())
    return jsonify(
        session_id=page["session"]["session_id"],
        key=page["session"]["key"],
        interactions=[answers.InteractionView.arrange(row) for row in page["interactions"]],
        complete=page.get("complete", True),
        next=paging.transcript_cursor(page["after"]),
    )


@blueprint.get("/v1/sessions/<session:session>/gaps")
@describe("Find gaps in a session's turns", None, {200: answers.Gaps}, query=paging.GapsQuery)
def get_gaps(session: str) -> Response:
    ranges = paging.read(request, paging.GapsQuery).limit
    return jsonify(answers.Gaps.arrange(http.repository().gaps(session, ranges)))
