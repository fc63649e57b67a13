"""Which texts of a row are redacted: all that people say, and nothing that names or links records."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from math import inf
from typing import Any

from logging_store.records.values import MAX_NAME

#: Fields of a row that hold what people say. What names a record (ids, keys, users, participants), and the names of
#: models and providers, stay as they are: they would mean something else.
FIELDS = ("prompt", "response", "error", "title", "name", "tags", "metadata", "value", "comment")

#: What links messages; a message's id and what it replies to stand in metadata, too.
_OF_A_MESSAGE = frozenset({"role", "id", "type", "tool_call_id"})
_OF_A_CALL = frozenset({"id", "type", "call_id"})
_OF_A_PART = frozenset({"id", "type", "tool_use_id", "tool_call_id"})
IN_METADATA = frozenset({"turnlog.response_id", "turnlog.reply_to"})

#: Names that chats use in each message: nobody is meant by them.
_COMMON = frozenset({"role", "content", "type", "text", "name", "tool_calls", "function", "arguments", "input"})

_CARD_SIZED = 10**11  # a number of fewer digits is no card's

_Redact = Callable[[str], str]


def redact_field(field: str, value: Any, redact: _Redact) -> Any:
    """Return a field's value with its texts redacted."""
    match field, value:
        case _, str():
            return redact(value)
        case "tags", list():
            return list(dict.fromkeys(map(redact, value)))  # a set: two that became one are one
        case "metadata", dict():
            return _object(value, redact, IN_METADATA)
        case (("prompt" | "response"), list()):
            return [_message(message, redact) for message in value]
    return _anything(value, redact)


def _message(message: Mapping[str, Any], redact: _Redact) -> dict[str, Any]:
    redacted = _object(message, redact, _OF_A_MESSAGE, without={"content", "tool_calls"})
    for name, links in (("content", _OF_A_PART), ("tool_calls", _OF_A_CALL)):
        if isinstance(parts := message.get(name), list):
            redacted[name] = [
                _object(part, redact, links) if isinstance(part, dict) else _anything(part, redact) for part in parts
            ]
        elif name in message:
            redacted[name] = _anything(parts, redact)
    return {name: redacted[name] for name in message if name in redacted} | redacted  # in the order sent


def _object(
    value: Mapping[str, Any], redact: _Redact, links: Collection[str] = (), without: Collection[str] = ()
) -> dict[str, Any]:
    """Return an object with its texts and names redacted, but not what links; names that became one are numbered."""
    redacted: dict[str, Any] = {}
    same: Counter[str] = Counter()
    for name, item in value.items():
        if name in without:
            continue
        if name in links and isinstance(item, str) and len(item) <= MAX_NAME:
            redacted[name] = item
            continue
        new = name if name in _COMMON or name in links else redact(name)
        while new in redacted or (new != name and new in value):
            same[new] += 1
            numbered = f"{new} {same[new] + 1}"
            if numbered not in redacted and numbered not in value:
                new = numbered
        redacted[new] = _anything(item, redact)
    return redacted


def _anything(value: Any, redact: _Redact) -> Any:
    match value:
        case str():
            return redact(value)
        case list():
            return [_anything(item, redact) for item in value]
        case dict():
            return _object(value, redact)
        case int() | float() if _CARD_SIZED < abs(value) < inf:
            written = str(int(value))  # a card's number is the same with a point behind it
            redacted = redact(written)
            return value if redacted == written else redacted
    return value
