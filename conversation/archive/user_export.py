"""What a person may ask for: everything that is kept about them."""

from flask import Blueprint, Response

from conversation import access, answers, http
from conversation.archive import person
from conversation.erasing import named_user
from conversation.openapi import LINES, describe

blueprint = Blueprint("user_export", __name__)


@blueprint.get("/v1/users/<name:user>/export")
@access.requires("read")
@describe(
    "Give out everything about a user, a record of JSON a line", None, {200: answers.ExportedLines}, media_type=LINES
)
def export_user(user: str) -> Response:
    return http.streamed(person.write(http.repository(), named_user(user)), LINES)
