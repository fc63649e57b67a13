"""Common names of columns in hand-written chat logs, and the types that each field accepts."""

from dataclasses import dataclass

from conversation.archive.from_database.tables import Kind
from conversation.refusals import field_synonyms

_ID: frozenset[Kind] = frozenset({"uuid", "text", "integer"})
_TEXT: frozenset[Kind] = frozenset({"text"})
_SAID: frozenset[Kind] = frozenset({"text", "json"})
_TIME: frozenset[Kind] = frozenset({"zoned", "unzoned", "date", "integer", "number", "text"})
_COUNT: frozenset[Kind] = frozenset({"integer", "number"})
_LIST: frozenset[Kind] = frozenset({"array", "json"})
_OBJECT: frozenset[Kind] = frozenset({"json"})


@dataclass(frozen=True, slots=True)
class Field:
    """A field, the kinds of column that it accepts, and common names for it, most likely first."""

    name: str
    kinds: frozenset[Kind]
    names: tuple[str, ...]


def _field(name: str, kinds: frozenset[Kind], names: str) -> Field:
    return Field(name, kinds, tuple(names.split()))


_METADATA = _field("metadata", _OBJECT, field_synonyms.METADATA)
_STATUS = _field("status", _TEXT, field_synonyms.STATUS)
_TAGS = _field("tags", _LIST, field_synonyms.TAGS)
_MODEL = (
    _field("model", _TEXT, field_synonyms.MODEL),
    _field("provider", _TEXT, field_synonyms.PROVIDER),
    _field("input_tokens", _COUNT, field_synonyms.INPUT_TOKENS),
    _field("output_tokens", _COUNT, field_synonyms.OUTPUT_TOKENS),
    _field("cached_input_tokens", _COUNT, field_synonyms.CACHED),
    _field("cache_write_tokens", _COUNT, field_synonyms.CACHE_WRITE),
    _field("reasoning_tokens", _COUNT, field_synonyms.REASONING),
    _field("latency_ms", _COUNT, field_synonyms.LATENCY),
    _field("time_to_first_token_ms", _COUNT, field_synonyms.UNTIL_FIRST),
    _field("cost_usd", _COUNT, field_synonyms.COST),
    _field("error", _SAID, field_synonyms.ERROR),
    _field("finish_reason", _TEXT, field_synonyms.FINISH_REASON),
)

SESSION_FIELDS = (
    _field("session_id", _ID, f"id {field_synonyms.SESSION} uuid"),
    _field("user_id", _ID, field_synonyms.USER),
    _field("title", _TEXT, field_synonyms.TITLE),
    _field("started_at", _TIME, field_synonyms.BEGUN),
    _field("ended_at", _TIME, field_synonyms.ENDED),
    _STATUS,
    _TAGS,
    _METADATA,
)
_OF_ANY_ROW = (
    _field("interaction_id", _ID, field_synonyms.INTERACTION),
    _field("session_id", _ID, field_synonyms.SESSION),
    _field("user_id", _ID, field_synonyms.USER),
)
INTERACTION_FIELDS = (
    *_OF_ANY_ROW,
    _field("prompt", _SAID, field_synonyms.PROMPT),
    _field("response", _SAID, field_synonyms.RESPONSE),
    *_MODEL,
    _field("started_at", _TIME, field_synonyms.BEGUN),
    _field("completed_at", _TIME, field_synonyms.COMPLETED),
    _field("turn", frozenset({"integer"}), field_synonyms.TURN),
    _STATUS,
    _TAGS,
    _METADATA,
)
MESSAGE_FIELDS = (
    *_OF_ANY_ROW,
    _field("role", _TEXT, field_synonyms.ROLE),
    _field("content", _SAID, field_synonyms.CONTENT),
    *_MODEL,
    _field("said_at", _TIME, field_synonyms.BEGUN),
    _field("reply_to", _ID, "reply_to parent_message_id parent_id in_reply_to reply_to_id"),
    _field(
        "position",
        frozenset({"integer"}),
        "sequence_number position message_index seq sequence turn turn_number order_index message_order",
    ),
)
_SUM = "a sum; Turnlog keeps input and output tokens"
#: Known columns without a field, which go to metadata under their own name, and a note for the plan.
METADATA_NOTES = dict.fromkeys(sorted(field_synonyms.SUMS_OF_TOKENS), _SUM) | {
    "updated_at": "when the row last changed"
}
