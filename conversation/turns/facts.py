"""What a message says of the call of the model that wrote it: model, finish reason, tokens, status and error."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from logging_store.records.models import InteractionStatus
from logging_store.records.values import Name

_NAME: TypeAdapter[str] = TypeAdapter(Name)

_MODEL = ("model", "model_name", "model_id")
_FINISH = ("finish_reason", "finishReason", "stop_reason")
_USAGE = ("usage", "usage_metadata", "usageMetadata", "token_usage")
_INPUT = ("input_tokens", "prompt_tokens", "promptTokenCount", "prompt_token_count", "inputTokens", "promptTokens")
_OUTPUT = (
    "output_tokens", "completion_tokens", "candidatesTokenCount", "candidates_token_count", "outputTokens",
    "completionTokens",
)  # fmt: skip
_TOTALS = ("total_tokens", "totalTokenCount", "total_token_count", "totalTokens")
_CACHED = ("cachedContentTokenCount", "cached_content_token_count", "cachedInputTokens")
_THOUGHTS = ("thoughtsTokenCount", "thoughts_token_count")
_REASONING = (*_THOUGHTS, "reasoningTokens")
_ANTHROPIC_CACHE = ("cache_read_input_tokens", "cache_creation_input_tokens")
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details", "inputTokenDetails")
_OUTPUT_DETAILS = (
    "completion_tokens_details", "output_tokens_details", "output_token_details", "outputTokenDetails",
)  # fmt: skip
_STATUSES = get_args(InteractionStatus)
_READ = frozenset(
    (*_INPUT, *_OUTPUT, *_TOTALS, *_CACHED, *_REASONING, *_ANTHROPIC_CACHE, *_INPUT_DETAILS, *_OUTPUT_DETAILS)
)


def take(rest: dict[str, Any]) -> dict[str, Any]:
    """Remove what an answer's fields say of its call, and return it by the names of an interaction's fields.

    What a usage says that no field has is `metadata`.
    """
    said = _take(rest)
    if rest.get("status") in _STATUSES:
        said["status"] = rest.pop("status")
    if isinstance(error := rest.get("error"), str) and error.strip():
        said["error"] = rest.pop("error")
    if isinstance(beside := rest.get("response_metadata"), dict):  # LangChain's
        rest["response_metadata"] = dict(beside)
        said = _take(rest["response_metadata"]) | said
    return said


def _take(source: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for field, names in (("model", _MODEL), ("finish_reason", _FINISH)):
        for name in names:
            if name in source:
                with suppress(ValidationError):  # else it stays a further field of the message
                    said[field] = _NAME.validate_python(source[name])
                    del source[name]
                    break
    for name in _USAGE:
        if isinstance(value := source.get(name), dict):
            said |= usage(value)
            if beyond := _beyond(value):
                said["metadata"] = {"usage": beyond}
            del source[name]
    return said


def usage(sent: Mapping[str, Any]) -> dict[str, int]:
    """Return a provider's usage as fields of an interaction.

    `input_tokens` has those that the cache read and wrote, `output_tokens` those of reasoning, as prices count them.
    """
    found = {
        "input_tokens": _count(sent, _INPUT),
        "output_tokens": _count(sent, _OUTPUT),
        "cached_input_tokens": _count(sent, _CACHED),
        "cache_write_tokens": None,
        "reasoning_tokens": _count(sent, _REASONING),
    }
    for name in _INPUT_DETAILS:
        if isinstance(details := sent.get(name), dict):
            found["cached_input_tokens"] = _count(details, ("cached_tokens", "cache_read", "cacheReadTokens"))
            found["cache_write_tokens"] = _count(details, ("cache_creation", "cacheWriteTokens"))
    for name in _OUTPUT_DETAILS:
        if isinstance(details := sent.get(name), dict):
            found["reasoning_tokens"] = _count(details, ("reasoning_tokens", "reasoning", "reasoningTokens"))
    read, written = (_count(sent, (name,)) for name in _ANTHROPIC_CACHE)
    if found["input_tokens"] is not None and (read is not None or written is not None):
        # Anthropic counts the input without what the cache read and wrote
        found["input_tokens"] += (read or 0) + (written or 0)
        found |= {"cached_input_tokens": read, "cache_write_tokens": written}
    if found["output_tokens"] is not None and (thoughts := _count(sent, _THOUGHTS)):
        found["output_tokens"] += thoughts  # Gemini counts the output without the thoughts
    return {name: count for name, count in found.items() if count is not None}


def _beyond(sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a usage says beyond the fields that `usage` reads, but for zeros."""
    return {name: value for name, value in sent.items() if name not in _READ and not _is_zero(value)}


def _is_zero(value: Any) -> bool:
    match value:
        case dict():
            return all(map(_is_zero, value.values()))
        case list():
            return all(map(_is_zero, value))
    return value is None or value in {0, ""}


def _count(sent: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = sent.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53:
            return value
    return None
