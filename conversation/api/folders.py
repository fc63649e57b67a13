"""The folders' endpoints: sessions that belong together and are numbered."""

from typing import Any

from flask import Blueprint, Response, jsonify, request, url_for

from conversation import access
from conversation.api import cursors, folder_schemas, http, pagination, problems, requests, schemas, sessions
from conversation.api.openapi import describe
from logging_store.records.models import Folder, FolderSession, Session

blueprint = Blueprint("folders", __name__)


@blueprint.post("/v1/folders")
@access.requires("log")
@describe(
    "Create a folder with the sessions of its plan, unless they are there",
    Folder,
    {
        201: folder_schemas.FolderKept,
        200: folder_schemas.FolderKept,
        207: folder_schemas.FolderKept,
        202: folder_schemas.FolderSpooled,
    },
)
def create_folder() -> Response:
    kept = http.repository().ensure_folder(http.read_record(Folder))
    assert kept.folder is not None  # noqa: S101 - a folder's own record has one
    ids = {"folder_id": kept.folder.id, "key": kept.folder.key}
    if not kept.receipt.acknowledged:
        return problems.refused(kept.receipt, ids)
    answered: dict[str, Any] = ids | {"receipt": kept.receipt.receipt, "fields": kept.receipt.fields}
    if kept.receipt.folder:
        answered["folder"] = folder_schemas.FolderView.arrange(kept.receipt.folder)
    answered["sessions"] = [folder_schemas.PlannedSession.arrange(planned) for planned in kept.receipt.planned]
    refused = any(planned["receipt"] in {"conflict", "rejected"} for planned in kept.receipt.planned)
    answer = http.answer(207 if refused else http.status_of(kept.receipt), answered)
    if kept.receipt.receipt == "created":
        answer.headers["Location"] = url_for(".get_folder", folder=kept.folder.id)
    return answer


@blueprint.get("/v1/folders")
@access.requires("read")
@describe("List folders", None, {200: folder_schemas.FolderPage}, query=pagination.FoldersQuery)
def list_folders() -> Response:
    page = http.repository().folders(pagination.read(request, pagination.FoldersQuery).to_json())
    folders = [folder_schemas.FolderView.arrange(row) for row in page["folders"]]
    return jsonify(folders=folders, next=cursors.folders_cursor(page["after"]))


@blueprint.get("/v1/folders/<name:folder>")
@access.requires("read")
@describe(
    "Get a folder with a page of its sessions, in order",
    None,
    {200: folder_schemas.FolderAnswer},
    query=pagination.FolderQuery,
)
def get_folder(folder: str) -> Response:
    page = http.repository().folder(folder, pagination.read(request, pagination.FolderQuery).to_json())
    return jsonify(
        folder_schemas.FolderView.arrange(page["folder"])
        | {
            "sessions": [schemas.SessionView.arrange(row) for row in page["sessions"]],
            "next": cursors.folder_cursor(page["after"]),
        }
    )


@blueprint.post("/v1/folders/<name:folder>/sessions")
@access.requires("log")
@describe(
    "Create a session of a folder, unless it is there; without a number it gets the next free one",
    FolderSession,
    sessions.KEPT,
)
def create_session(folder: str) -> Response:
    stated = http.read_record(FolderSession)
    session = requests.validate(Session, stated.model_dump(mode="json", exclude_unset=True) | {"folder_id": folder})
    return sessions.answer(http.repository().open_session(session, next_number=True))
