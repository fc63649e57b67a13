"""What a person may ask for: everything that is kept about them."""

from collections.abc import Iterator

from flask import Blueprint, Response

from conversation import access, answers, http
from conversation.archive import person
from conversation.erasing import named_user
from conversation.openapi import LINES, describe

_SENT_AT_ONCE = 64 * 1024

blueprint = Blueprint("user_export", __name__)


@blueprint.get("/v1/users/<name:user>/export")
@access.requires("read")
@describe(
    "Give out everything about a user, a record of JSON a line", None, {200: answers.ExportedLines}, media_type=LINES
)
def export_user(user: str) -> Response:
    parts = _parts(person.write(http.repository(), named_user(user)))
    first = next(parts, b"")  # before the answer begins: a store that is away is still told of as a problem

    def answered() -> Iterator[bytes]:
        yield first
        yield from parts

    return Response(answered(), content_type=LINES)


def _parts(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield lines together, so that not each is a write of its own."""
    gathered = bytearray()
    for line in lines:
        gathered += line
        if len(gathered) >= _SENT_AT_ONCE:
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)
