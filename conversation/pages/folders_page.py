"""Folders: their plans, their progress, and their sessions by number."""

from datetime import date, timedelta
from typing import NamedTuple

from flask import Blueprint, Response, request, url_for

from conversation import access, pages
from conversation.api import caller, cursors, pagination
from conversation.pages import forms
from logging_store import operations as ops

blueprint = Blueprint("pages_folders", __name__)


class Week(NamedTuple):
    """A week of a plan. `begins_on`: None if the plan has no start date."""

    number: int
    begins_on: date | None
    sessions: list[ops.Session]


@blueprint.get("/folders")
@access.page("read")
def folders() -> Response:
    query = forms.read(pagination.FoldersQuery)
    page = caller.repository().folders(query.to_json())
    following = cursors.folders_cursor(page["after"])
    return pages.render(
        "folders.html",
        folders=page["folders"],
        user_id=query.user_id,
        next=url_for(".folders", cursor=following, user_id=query.user_id, limit=request.args.get("limit"))
        if following
        else None,
    )


@blueprint.get("/folders/<name:folder>")
@access.page("read")
def folder(folder: str) -> Response:
    page = caller.repository().folder(folder, forms.read(pagination.FolderQuery).to_json())
    found, following = page["folder"], cursors.folder_cursor(page["after"])
    return pages.render(
        "folder.html",
        folder=found,
        sessions=page["sessions"],
        weeks=weeks(found["plan"], page["sessions"]) if found["plan"] else [],
        next=url_for(".folder", folder=found["folder_id"], cursor=following, limit=request.args.get("limit"))
        if following
        else None,
    )


def weeks(plan: ops.Plan, sessions: list[ops.Session]) -> list[Week]:
    """Group sessions by the weeks of their folder's plan; numbers past the plan's end are in undated weeks after it."""
    starts_on = date.fromisoformat(plan["starts_on"]) if plan["starts_on"] else None
    found: dict[int, Week] = {}
    for session in sessions:
        if session["session_number"] is None:
            continue
        place = (session["session_number"] - 1) // plan["sessions_per_week"]
        begins_on = starts_on + timedelta(weeks=place) if starts_on and place < plan["total_weeks"] else None
        found.setdefault(place, Week(place + 1, begins_on, [])).sessions.append(session)
    return list(found.values())
