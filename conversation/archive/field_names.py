"""The names that programs have for the fields of sessions and interactions, in any case."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from conversation.refusals import field_synonyms
from logging_store.records.models import Interaction, Session

#: Names of fields that change whenever their conversation does, or that tell when a file was made.
_MOVING = frozenset({
    "update_time", "updated_at", "updated", "last_updated", "last_updated_at", "modified_at", "modified",
    "last_modified", "last_modified_at", "edited_at", "changed_at", "exported_at", "export_time", "export_date",
    "last_message", "last_message_at", "last_message_id", "last_activity", "last_activity_at", "last_active_at",
    "message_count", "messages_count", "num_messages", "total_messages", "turn_count", "num_turns",
    "current_node",
})  # fmt: skip


@lru_cache(maxsize=4096)  # a file has the same names in every document
def snake_case(name: str) -> str:
    """Return a name in snake case: `userInput` and `User Input` become `user_input`."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[\s-]+", "_", parted).lower().strip("_")


def is_moving(name: str) -> bool:
    """Return whether a field changes whenever its conversation does, so that it can't contradict what is stored."""
    return snake_case(name) in _MOVING or name == "__v"  # Mongoose counts a document's changes in it


_SESSION: Mapping[str, str] = {
    "user_id": f"{field_synonyms.USER} end_user",
    "title": "title",
    "tags": "tags labels",
}
#: Facts of a call, by field. Names that often mean something else, as `date` or `time`, aren't among them.
_CALL: Mapping[str, str] = {
    "model": field_synonyms.MODEL,
    "provider": f"{field_synonyms.PROVIDER} custom_llm_provider",
    "finish_reason": field_synonyms.FINISH_REASON,
    "started_at": "started_at start_time begun_at created_at created timestamp",
    "completed_at": "completed_at end_time ended_at finished_at",
    "latency_ms": field_synonyms.LATENCY,
    "time_to_first_token_ms": field_synonyms.UNTIL_FIRST,
    "input_tokens": field_synonyms.INPUT_TOKENS,
    "output_tokens": field_synonyms.OUTPUT_TOKENS,
    "cached_input_tokens": field_synonyms.CACHED,
    "cache_write_tokens": field_synonyms.CACHE_WRITE,
    "reasoning_tokens": field_synonyms.REASONING,
    "cost_usd": f"{field_synonyms.COST} response_cost",
    "error": f"{field_synonyms.ERROR} error_str",
}
_VALID: Mapping[str, TypeAdapter[Any]] = {
    name: TypeAdapter(cast("Any", model.model_fields[name].annotation), config=ConfigDict(strict=True))
    for model, names in ((Session, _SESSION), (Interaction, _CALL))
    for name in names
}


def take_call(rest: dict[str, Any], only: Sequence[str] = tuple(_CALL)) -> dict[str, Any]:
    """Remove the facts of a call of a model from a log's fields, and return them as fields of an interaction.

    A value that its field can't hold stays where it is.
    """
    return _take(rest, {name: _CALL[name] for name in only})


def take_session(rest: dict[str, Any]) -> dict[str, Any]:
    """Remove a session's own fields, and return them."""
    return _take(rest, _SESSION)


def is_valid(field: str, value: Any) -> bool:
    """Return whether a field of a call can hold a value."""
    try:
        _VALID[field].validate_python(value)
    except ValidationError:
        return False
    return True


def take(rest: dict[str, Any], names: Sequence[str]) -> Any:
    """Remove the first of several fields that is present, whatever its case, and return its value; else None."""
    by_name = {snake_case(name): name for name in reversed(list(rest))}
    present = next((by_name[name] for name in names if name in by_name), None)
    return None if present is None else rest.pop(present)


def _take(rest: dict[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    by_name = {snake_case(name): name for name in reversed(list(rest))}
    found: dict[str, Any] = {}
    for field, names in fields.items():
        for name in names.split():
            theirs = by_name.get(name)
            if theirs is None or rest.get(theirs) is None:
                continue
            if is_valid(field, rest[theirs]):
                found[field] = rest.pop(theirs)
                break
    return found
