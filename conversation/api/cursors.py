"""Cursors of lists: positions encoded as hexadecimal digits, and decoded when callers send them back.

Any text of the right form decodes to some position, so a forged or truncated cursor is refused or harmless.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from logging_store import operations
from logging_store.records.json_values import MAX_EXACT_INTEGER, NO_TURN

_EPOCH, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
LAST_ID = str(UUID(int=2**128 - 1))
_UNNUMBERED = 2**31 - 1  # the number at which the store puts sessions without one
_TURN, _AT, _ID = 14, 15, 32  # digits: 2**53 fits in 14, the microseconds of 9999 years in 15, a UUID in 32
_NUMBER = 8
_TURN_CURSOR = _TURN + 2 * _AT + _ID  # and another id, if it is a cursor of a branch
_SUM = 20  # digits of a sum of counts
_INVALID = PydanticCustomError("cursor", "Not a cursor of this list; start again without one")
_LENGTH = 4
_USAGE_CURSOR = f"[0-9a-f]{{{_SUM}}}([0-9a-f]{{2}})+"  # tokens, then the user in UTF-8
# an id, the length in bytes of the author, then author and name in UTF-8
_FEEDBACK_CURSOR = f"[0-9a-f]{{{_ID + _LENGTH}}}([0-9a-f]{{2}})*"


def session_cursor(place: operations.SessionCursor | None) -> str | None:
    """Encode the position after a page of sessions."""
    if not place:
        return None
    began = _encode_time(place["began"]) if "began" in place else ""
    return _encode_time(place["at"]) + began + UUID(place["session_id"]).hex


def sessions_by_id_cursor(place: str | None) -> str | None:
    """Encode the position after a page of sessions by id: the last one's id."""
    return session_cursor({"at": _EPOCH.isoformat(), "session_id": place}) if place else None


def folder_cursor(place: operations.NumberCursor | None) -> str | None:
    """Encode the position after a page of a folder's sessions."""
    return f"{place['number']:0{_NUMBER}x}" + UUID(place["session_id"]).hex if place else None


def folders_cursor(place: str | None) -> str | None:
    """Encode the position after a page of folders: the last one's id."""
    return UUID(place).hex if place else None


def transcript_cursor(place: operations.TurnCursor | None) -> str | None:
    """Encode the position after a page of a transcript."""
    if not place:
        return None
    turn = place["turn"] if place["turn"] <= MAX_EXACT_INTEGER else 16**_TURN - 1
    times = _encode_time(place["at"]) + _encode_time(place["arrived"])
    branch = UUID(place["branch"]).hex if place.get("branch") else ""
    return f"{turn:0{_TURN}x}" + times + UUID(place["interaction_id"]).hex + branch


def interaction_cursor(place: operations.InteractionCursor | None) -> str | None:
    """Encode the position after a page of interactions of all sessions."""
    if not place:
        return None
    return _encode_time(place["at"]) + UUID(place["session_id"]).hex + UUID(place["interaction_id"]).hex


def feedback_cursor(place: operations.FeedbackCursor | None) -> str | None:
    """Encode the position after a page of feedback."""
    if not place:
        return None
    author, name = place["author"].encode().hex(), place["name"].encode().hex()
    return f"{UUID(place['interaction_id']).hex}{len(author) // 2:0{_LENGTH}x}{author}{name}"


def usage_cursor(place: operations.UsageCursor | None) -> str | None:
    """Encode the position after a page of users."""
    if not place:
        return None
    return f"{min(int(place['tokens']), 16**_SUM - 1):0{_SUM}x}" + place["user_id"].encode().hex()


def read_cursor(place: operations.ReadCursor | None) -> str | None:
    """Encode the position after a page of the audit of reads."""
    return _encode_time(place["at"]) + UUID(place["id"]).hex if place else None


def revision_cursor(place: operations.RevisionCursor | None) -> str | None:
    """Encode the position after a page of an interaction's revisions."""
    if not place:
        return None
    return _encode_time(place["at"]) + _encode_time(place["arrived"]) + UUID(place["revision_id"]).hex


def _encode_time(text: str) -> str:
    return f"{(datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND:0{_AT}x}"


def _decode_time(digits: str) -> str:
    return (_EPOCH + min(int(digits, 16) * _MICROSECOND, _LAST - _EPOCH)).isoformat()


def _pattern(count: int, more: int = 0) -> str:
    return f"[0-9a-f]{{{count}}}" + (f"([0-9a-f]{{{more}}})?" if more else "")


def _digits(cursor: object, count: int, more: int = 0) -> str:
    """Return a cursor of `count` digits, and perhaps so many `more`."""
    if isinstance(cursor, str) and re.fullmatch(_pattern(count, more), cursor):
        return cursor
    raise _INVALID


def _session_place(cursor: object) -> operations.SessionCursor:
    digits = _digits(cursor, _AT + _ID, _AT)
    place: operations.SessionCursor = {"at": _decode_time(digits[:_AT]), "session_id": str(UUID(digits[-_ID:]))}
    began = digits[_AT:-_ID]
    return {**place, "began": _decode_time(began)} if began else place


def _read_place(cursor: object) -> operations.ReadCursor:
    place = _session_place(cursor)
    return {"at": place["at"], "id": place["session_id"]}


def _revision_place(cursor: object) -> dict[str, str]:
    digits = _digits(cursor, 2 * _AT + _ID)
    return {
        "at": _decode_time(digits[:_AT]),
        "arrived": _decode_time(digits[_AT:-_ID]),
        "revision_id": str(UUID(digits[-_ID:])),
    }


def _interaction_place(cursor: object) -> operations.InteractionCursor:
    digits = _digits(cursor, _AT + 2 * _ID)
    at, session, interaction = digits[:_AT], digits[_AT:-_ID], digits[-_ID:]
    return {"at": _decode_time(at), "session_id": str(UUID(session)), "interaction_id": str(UUID(interaction))}


def _folder_place(cursor: object) -> operations.NumberCursor:
    digits = _digits(cursor, _NUMBER + _ID)
    return {"number": min(int(digits[:_NUMBER], 16), _UNNUMBERED), "session_id": str(UUID(digits[_NUMBER:]))}


def _folders_place(cursor: object) -> str:
    return str(UUID(_digits(cursor, _ID)))


def _transcript_place(cursor: object) -> operations.TurnCursor:
    if isinstance(cursor, str) and len(cursor) == _TURN + _AT + _ID:
        # made before cursors had the time of arrival: what was said at the cursor's time may come again
        cursor = cursor[:-_ID] + "0" * _AT + cursor[-_ID:]
    digits = _digits(cursor, _TURN_CURSOR, _ID)
    digits, branch = digits[:_TURN_CURSOR], digits[_TURN_CURSOR:]
    turn, at, arrived = digits[:_TURN], digits[_TURN : _TURN + _AT], digits[_TURN + _AT : -_ID]
    interaction = digits[-_ID:]
    counted = int(turn, 16) <= MAX_EXACT_INTEGER
    place: operations.TurnCursor = {
        "turn": int(turn, 16) if counted else NO_TURN,
        "at": _decode_time(at),
        "arrived": _decode_time(arrived),
        "interaction_id": str(UUID(interaction)),
    }
    return {**place, "branch": str(UUID(branch))} if branch else place


def _feedback_place(cursor: object) -> operations.FeedbackCursor:
    if not isinstance(cursor, str) or not re.fullmatch(_FEEDBACK_CURSOR, cursor):
        raise _INVALID
    names, length = bytes.fromhex(cursor[_ID + _LENGTH :]), int(cursor[_ID : _ID + _LENGTH], 16)
    author, name = (
        part.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
        for part in (names[:length], names[length:])
    )
    return {"interaction_id": str(UUID(cursor[:_ID])), "author": author, "name": name}


def _usage_place(cursor: object) -> operations.UsageCursor:
    if not isinstance(cursor, str) or not re.fullmatch(_USAGE_CURSOR, cursor):
        raise _INVALID
    user = bytes.fromhex(cursor[_SUM:]).decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    return {"tokens": int(cursor[:_SUM], 16), "user_id": user}


def _schema(count: int, more: int = 0) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{_pattern(count, more)}$"})


_Place = Any  # one of logging_store.operations
SessionCursor = Annotated[_Place, BeforeValidator(_session_place), _schema(_AT + _ID, _AT)]
ReadCursor = Annotated[_Place, BeforeValidator(_read_place), _schema(_AT + _ID)]
RevisionCursor = Annotated[_Place, BeforeValidator(_revision_place), _schema(2 * _AT + _ID)]
InteractionCursor = Annotated[_Place, BeforeValidator(_interaction_place), _schema(_AT + 2 * _ID)]
NumberCursor = Annotated[_Place, BeforeValidator(_folder_place), _schema(_NUMBER + _ID)]
FolderPlace = Annotated[str, BeforeValidator(_folders_place), _schema(_ID)]
TurnCursor = Annotated[_Place, BeforeValidator(_transcript_place), _schema(_TURN_CURSOR, _ID)]
FeedbackCursor = Annotated[
    _Place, BeforeValidator(_feedback_place), WithJsonSchema({"type": "string", "pattern": f"^{_FEEDBACK_CURSOR}$"})
]
UsageCursor = Annotated[
    _Place, BeforeValidator(_usage_place), WithJsonSchema({"type": "string", "pattern": f"^{_USAGE_CURSOR}$"})
]
