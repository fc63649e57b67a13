"""Common names of columns in hand-written chat logs, and the types that each field accepts."""

import re
from dataclasses import dataclass

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
    """A field, the kinds of column that it accepts, and common names for it, most likely first."""

    name: str
    kinds: frozenset[Kind]
    names: tuple[str, ...]


def _field(name: str, kinds: frozenset[Kind], names: str) -> Field:
    return Field(name, kinds, tuple(names.split()))


_SESSION_NAMES = (
    "session_id conversation_id chat_id thread_id session conversation chat thread session_uuid session_key dialog_id"
)
_USER = "user_id userid owner_id customer_id profile_id account_id user author_id created_by username"
_BEGUN = (
    "started_at start_time begun_at created_at timestamp created inserted_at logged_at occurred_at sent_at time ts date"
)
_METADATA = _field("metadata", _OBJECT, "metadata meta extra extras data attributes properties context_data")
_STATUS = _field("status", _TEXT, "status state")
_TAGS = _field("tags", _LIST, "tags labels")
_MODEL = (
    _field("model", _TEXT, "model model_name model_id llm llm_model ai_model engine"),
    _field("provider", _TEXT, "provider model_provider llm_provider vendor"),
    _field("input_tokens", _COUNT, "input_tokens prompt_tokens tokens_in tokens_input tokens_prompt input_token_count"),
    _field(
        "output_tokens",
        _COUNT,
        "output_tokens completion_tokens response_tokens tokens_out tokens_output tokens_completion output_token_count",
    ),
    _field(
        "latency_ms",
        _COUNT,
        "latency_ms duration_ms response_time_ms elapsed_ms latency_millis processing_time_ms response_ms",
    ),
    _field("time_to_first_token_ms", _COUNT, "time_to_first_token_ms ttft_ms first_token_ms"),
    _field("cost_usd", _COUNT, "cost_usd cost total_cost total_cost_usd price_usd"),
    _field("error", _SAID, "error error_message error_text error_msg failure_reason"),
    _field("finish_reason", _TEXT, "finish_reason stop_reason"),
)

SESSION_FIELDS = (
    _field("session_id", _ID, f"id {_SESSION_NAMES} uuid"),
    _field("user_id", _ID, _USER),
    _field("title", _TEXT, "title name topic subject session_name"),
    _field("started_at", _TIME, _BEGUN),
    _field("ended_at", _TIME, "ended_at end_time closed_at finished_at completed_at"),
    _STATUS,
    _TAGS,
    _METADATA,
)
_OF_ANY_ROW = (
    _field("interaction_id", _ID, "id interaction_id message_id log_id turn_id uuid"),
    _field("session_id", _ID, _SESSION_NAMES),
    _field("user_id", _ID, _USER),
)
INTERACTION_FIELDS = (
    *_OF_ANY_ROW,
    _field(
        "prompt",
        _SAID,
        "user_input prompt question input user_message user_prompt query user_query user_text human_message"
        " input_text request message messages",
    ),
    _field(
        "response",
        _SAID,
        "ai_response response answer output completion assistant_message bot_response assistant_response ai_message"
        " bot_message reply ai_output model_response output_text response_text generated_text",
    ),
    *_MODEL,
    _field("started_at", _TIME, _BEGUN),
    _field("completed_at", _TIME, "completed_at ended_at end_time finished_at responded_at answered_at"),
    _field("turn", frozenset({"integer"}), "turn turn_number turn_index sequence sequence_number position seq"),
    _STATUS,
    _TAGS,
    _METADATA,
)
MESSAGE_FIELDS = (
    *_OF_ANY_ROW,
    _field("role", _TEXT, "role sender sender_type message_role speaker author_role sender_role author"),
    _field("content", _SAID, "content text body message message_text message_content value"),
    *_MODEL,
    _field("said_at", _TIME, _BEGUN),
    _field(
        "position",
        frozenset({"integer"}),
        "sequence_number position message_index seq sequence turn turn_number order_index message_order",
    ),
)
#: Known columns without a field, which go to metadata under their own name, and a note for the plan.
METADATA_NOTES = {
    "tokens_used": "a sum; Turnlog keeps input and output tokens",
    "total_tokens": "a sum; Turnlog keeps input and output tokens",
    "token_count": "a sum; Turnlog keeps input and output tokens",
    "tokens": "a sum; Turnlog keeps input and output tokens",
    "updated_at": "when the row last changed",
}


def snake_case(name: str) -> str:
    """Return a column's name in snake case: `userInput` and `User Input` become `user_input`."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[\s-]+", "_", parted).lower().strip("_")
