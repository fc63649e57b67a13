"""CSV with one interaction per row (RFC 4180, UTF-8, lines end with CR LF).

Lists of messages, tags and metadata are JSON in their cells; an empty cell is a missing value. Alternatives follow from
reply_to, alternative_to and chosen_at. Texts are exported unchanged, also those that a spreadsheet would run as a
formula.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import to_json

from conversation.api import interactions
from conversation.archive.exporting import ExportItem

_OF_SESSION = ("user_id", "title")
_LEFT_OUT = {"session_id", "context", "alternatives", "question", "spooled"}
_COLUMNS = [
    "session_id",
    "session_key",
    *_OF_SESSION,
    *(name for name in interactions.InteractionView.model_fields if name not in _LEFT_OUT),
]


def write(exported: Iterator[ExportItem]) -> Iterator[bytes]:
    """Yield the header and a row for each interaction."""
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(_COLUMNS)
    for each in exported:
        session: Mapping[str, Any] = each.session or {}
        of_session = {"session_key": session.get("key"), **{name: session.get(name) for name in _OF_SESSION}}
        for interaction in each.interactions:
            row: dict[str, Any] = {**interaction, **of_session}
            rows.writerow([_cell(row[name]) for name in _COLUMNS])
            yield _drain(text)
    yield _drain(text)


def _cell(value: Any) -> Any:
    if value in (None, [], {}):
        return ""
    return to_json(value).decode() if isinstance(value, list | dict) else value


def _drain(text: io.StringIO) -> bytes:
    data = text.getvalue().encode()
    text.seek(0)
    text.truncate()
    return data
