"""Serves the style sheet and the scripts of the pages."""

from pathlib import Path

from flask import Blueprint, Response, send_from_directory

from conversation import access

blueprint = Blueprint("pages_assets", __name__)

_FOLDER = Path(__file__).parent / "static"
_MAX_AGE_S = 300  # then browsers revalidate


@blueprint.get("/static/pages/<path:filename>")
@access.open_to_all
def asset(filename: str) -> Response:
    return send_from_directory(_FOLDER, filename, max_age=_MAX_AGE_S)
