"""Serves the pages' own style sheet and scripts, which every page of this service shares."""

from pathlib import Path

from flask import Blueprint, Response, send_from_directory

from conversation import access

blueprint = Blueprint("pages_assets", __name__)

_FOLDER = Path(__file__).parent / "static"
_FRESH_S = 300  # then a browser asks whether it is still the same


@blueprint.get("/static/pages/<path:filename>")
@access.open_to_all
def asset(filename: str) -> Response:
    return send_from_directory(_FOLDER, filename, max_age=_FRESH_S)
