"""What a person may ask for: everything that is kept about them."""

from flask import Blueprint, Response

from conversation import access
from conversation.api import http, schemas
from conversation.api.erasure import named_user
from conversation.api.openapi import LINES, describe
from conversation.archive import user_records

blueprint = Blueprint("user_export", __name__)


@blueprint.get("/v1/users/<name:user>/export")
@access.requires("read")
@describe(
    "Give out everything about a user, a record of JSON a line", None, {200: schemas.ExportedLines}, media_type=LINES
)
def export_user(user: str) -> Response:
    return http.streamed(user_records.write(http.repository(), named_user(user)), LINES)
