"""Folders: numbered sessions that belong together."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

from flask import Blueprint, Response, jsonify, request, url_for

from conversation import access
from conversation.api import caller, cursors, pagination, problems, requests, responses, schemas, sessions
from conversation.api.openapi import describe
from conversation.api.schemas import ResponseModel, SessionView, Stored
from logging_store.batches import Outcome
from logging_store.records.models import Folder, FolderSession, Session

blueprint = Blueprint("folders", __name__)


class PlanView(ResponseModel):
    sessions_per_week: int
    total_weeks: int
    starts_on: date | None


class FolderStatistics(ResponseModel):
    """Counts of the folder's sessions, derived at each read.

    `planned`: sessions of the plan. `opened`: sessions that are no longer locked, or that have interactions; `closed`
    ones are among them.
    """

    planned: int
    sessions: int
    opened: int
    closed: int
    interactions: int
    last_activity_at: datetime | None


class FolderView(ResponseModel):
    folder_id: UUID
    key: str | None
    name: str | None
    user_id: str | None
    plan: PlanView | None
    metadata: dict[str, Any]
    implicit: bool
    created_at: datetime
    statistics: FolderStatistics

    @classmethod
    def arrange(cls, row: Mapping[str, Any]) -> dict[str, Any]:
        return super().arrange(row) | {
            "plan": PlanView.arrange(row["plan"]) if row["plan"] else None,
            "statistics": FolderStatistics.arrange(row["statistics"]),
        }


class FolderWithSessions(FolderView):
    sessions: list[SessionView]
    next: str | None


class FolderPage(ResponseModel):
    folders: list[FolderView]
    next: str | None


class PlannedSession(ResponseModel):
    """The outcome for one session of the plan. `held_by`: the session that has its number already."""

    session_number: int
    session_id: UUID
    receipt: Outcome
    fields: list[str]
    reason: str | None
    held_by: UUID | None

    @classmethod
    def arrange(cls, row: Mapping[str, Any]) -> dict[str, Any]:
        return super().arrange({"fields": [], "reason": None, "held_by": None, **row})


class FolderStored(ResponseModel):
    """`fields` are those that this call filled; `sessions` those of the plan in this call."""

    folder_id: UUID
    key: str | None
    receipt: Stored
    fields: list[str]
    altered: schemas.Altered
    folder: FolderView
    sessions: list[PlannedSession]


class FolderSpooled(ResponseModel):
    """The store is unavailable: the folder and its planned sessions are in the spool and are delivered later."""

    folder_id: UUID
    key: str | None
    receipt: Literal["spooled"]
    fields: list[str]
    altered: schemas.Altered
    sessions: list[PlannedSession]


@blueprint.post("/v1/folders")
@access.requires("log")
@describe(
    "Create a folder with the sessions of its plan, unless they exist",
    Folder,
    {201: FolderStored, 200: FolderStored, 207: FolderStored, 202: FolderSpooled},
)
def create_folder() -> Response:
    result = caller.repository().ensure_folder(caller.read_record(Folder))
    assert result.folder is not None  # noqa: S101 - a folder's own record has one
    ids = {"folder_id": result.folder.id, "key": result.folder.key}
    if not result.receipt.acknowledged:
        return problems.receipt_problem(result.receipt, ids)
    body: dict[str, Any] = ids | {"receipt": result.receipt.receipt, "fields": result.receipt.fields}
    body |= requests.altered()
    if result.receipt.folder:
        body["folder"] = FolderView.arrange(result.receipt.folder)
    body["sessions"] = [PlannedSession.arrange(planned) for planned in result.receipt.planned]
    refused = any(planned["receipt"] in {"conflict", "rejected"} for planned in result.receipt.planned)
    response = responses.json_response(207 if refused else responses.status_of(result.receipt), body)
    if result.receipt.receipt == "created":
        response.headers["Location"] = url_for(".get_folder", folder=result.folder.id)
    return response


@blueprint.get("/v1/folders")
@access.requires("read")
@describe("List folders", None, {200: FolderPage}, query=pagination.FoldersQuery)
def list_folders() -> Response:
    page = caller.repository().folders(pagination.read(request, pagination.FoldersQuery).to_json())
    folders = [FolderView.arrange(row) for row in page["folders"]]
    return jsonify(folders=folders, next=cursors.folders_cursor(page["after"]))


@blueprint.get("/v1/folders/<name:folder>")
@access.requires("read")
@describe(
    "Get a folder with a page of its sessions, in order",
    None,
    {200: FolderWithSessions},
    query=pagination.FolderQuery,
)
def get_folder(folder: str) -> Response:
    page = caller.repository().folder(folder, pagination.read(request, pagination.FolderQuery).to_json())
    return jsonify(
        FolderView.arrange(page["folder"])
        | {
            "sessions": [schemas.SessionView.arrange(row) for row in page["sessions"]],
            "next": cursors.folder_cursor(page["after"]),
        }
    )


@blueprint.post("/v1/folders/<name:folder>/sessions")
@access.requires("log")
@describe(
    "Create a session of a folder, unless it exists; without a number it gets the next free one",
    FolderSession,
    sessions.RESPONSES,
)
def create_session(folder: str) -> Response:
    fields = caller.read_record(FolderSession)
    session = requests.validate(Session, fields.model_dump(mode="json", exclude_unset=True) | {"folder_id": folder})
    return sessions.session_response(caller.repository().open_session(session, next_number=True))
