"""What the columns of hand-written loggers are called, and which types of them can be what."""

import re
from dataclasses import dataclass

from conversation import field_synonyms as names
from conversation.archive.from_database.tables import Kind

_ID: frozenset[Kind] = frozenset({"uuid", "text", "integer"})
_TEXT: frozenset[Kind] = frozenset({"text"})
_SAID: frozenset[Kind] = frozenset({"text", "json"})
_TIME: frozenset[Kind] = frozenset({"zoned", "unzoned", "date", "integer", "number", "text"})
_COUNT: frozenset[Kind] = frozenset({"integer", "number"})
_LIST: frozenset[Kind] = frozenset({"array", "json"})
_OBJECT: frozenset[Kind] = frozenset({"json"})


@dataclass(frozen=True, slots=True)
class Field:
    """A field of ours, the names that others give it, the likeliest first, and the kinds of column that it may have."""

    name: str
    kinds: frozenset[Kind]
    names: tuple[str, ...]


def _field(name: str, kinds: frozenset[Kind], names: str) -> Field:
    return Field(name, kinds, tuple(names.split()))


_METADATA = _field("metadata", _OBJECT, names.METADATA)
_STATUS = _field("status", _TEXT, names.STATUS)
_TAGS = _field("tags", _LIST, names.TAGS)
_MODEL = (
    _field("model", _TEXT, names.MODEL),
    _field("provider", _TEXT, names.PROVIDER),
    _field("input_tokens", _COUNT, names.INPUT_TOKENS),
    _field("output_tokens", _COUNT, names.OUTPUT_TOKENS),
    _field("latency_ms", _COUNT, names.LATENCY),
    _field("time_to_first_token_ms", _COUNT, names.UNTIL_FIRST),
    _field("cost_usd", _COUNT, names.COST),
    _field("error", _SAID, names.ERROR),
    _field("finish_reason", _TEXT, names.FINISH_REASON),
)

SESSION_FIELDS = (
    _field("session_id", _ID, f"id {names.SESSION} uuid"),
    _field("user_id", _ID, names.USER),
    _field("title", _TEXT, names.TITLE),
    _field("started_at", _TIME, names.BEGUN),
    _field("ended_at", _TIME, names.ENDED),
    _STATUS,
    _TAGS,
    _METADATA,
)
_OF_ANY_ROW = (
    _field("interaction_id", _ID, names.INTERACTION),
    _field("session_id", _ID, names.SESSION),
    _field("user_id", _ID, names.USER),
)
INTERACTION_FIELDS = (
    *_OF_ANY_ROW,
    _field("prompt", _SAID, names.PROMPT),
    _field("response", _SAID, names.RESPONSE),
    *_MODEL,
    _field("started_at", _TIME, names.BEGUN),
    _field("completed_at", _TIME, names.COMPLETED),
    _field("turn", frozenset({"integer"}), names.TURN),
    _STATUS,
    _TAGS,
    _METADATA,
)
MESSAGE_FIELDS = (
    *_OF_ANY_ROW,
    _field("role", _TEXT, names.ROLE),
    _field("content", _SAID, names.CONTENT),
    *_MODEL,
    _field("said_at", _TIME, names.BEGUN),
    _field(
        "position",
        frozenset({"integer"}),
        "sequence_number position message_index seq sequence turn turn_number order_index message_order",
    ),
)
_SUM = "a sum; Turnlog keeps input and output tokens"
#: Understood, but no field of Turnlog's: kept in metadata under their own name.
KEPT_ASIDE = dict.fromkeys(sorted(names.SUMS_OF_TOKENS), _SUM) | {"updated_at": "when the row last changed"}


def spelled_plainly(name: str) -> str:
    """Return a column's name as the tables here have it: `userInput` and `User Input` are `user_input`."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[\s-]+", "_", parted).lower().strip("_")
