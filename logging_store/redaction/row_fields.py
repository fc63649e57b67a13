"""Redacts the fields of a row that people write, and leaves names and links of records alone."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from math import inf
from typing import Any

from logging_store.records.values import MAX_NAME

#: The fields of a row that people write. Ids, keys, users, participants, models and providers stay as they are: if they
#: were redacted, they would identify something else.
FIELDS = (
    "prompt", "context", "response", "error", "title", "name", "tags", "metadata", "value", "comment", "revisions",
)  # fmt: skip

#: Fields that link messages; metadata may also hold a message's id and the id that it replies to.
_MESSAGE_LINKS = frozenset({"role", "id", "type", "tool_call_id", "reply_to"})
_CALL_LINKS = frozenset({"id", "type", "call_id"})
_PART_LINKS = frozenset({"id", "type", "tool_use_id", "tool_call_id"})
METADATA_LINKS = frozenset({"turnlog.response_id", "turnlog.reply_to"})

#: Field names of every chat message, which can't be personal.
_COMMON_NAMES = frozenset({"role", "content", "type", "text", "name", "tool_calls", "function", "arguments", "input"})

_MIN_CARD_NUMBER = 10**11  # no card has fewer digits

_Redact = Callable[[str], str]


def redact_field(field: str, value: Any, redact: _Redact) -> Any:
    """Return a field's value with its texts redacted."""
    match field, value:
        case _, str():
            return redact(value)
        case "tags", list():
            return list(dict.fromkeys(map(redact, value)))  # tags are a set: equal ones become one
        case "revisions", list():
            return [
                each
                | {
                    "facts": {
                        name: redact_field(name, fact, redact) if name in FIELDS else fact
                        for name, fact in each["facts"].items()
                    }
                }
                for each in value
            ]
        case "metadata", dict():
            return _redact_object(value, redact, METADATA_LINKS)
        case (("prompt" | "context" | "response"), list()):
            return [_redact_message(message, redact) for message in value]
    return _redact_value(value, redact)


def _redact_message(message: Mapping[str, Any], redact: _Redact) -> dict[str, Any]:
    redacted = _redact_object(message, redact, _MESSAGE_LINKS, without={"content", "tool_calls"})
    for name, links in (("content", _PART_LINKS), ("tool_calls", _CALL_LINKS)):
        if isinstance(parts := message.get(name), list):
            redacted[name] = [
                _redact_object(part, redact, links) if isinstance(part, dict) else _redact_value(part, redact)
                for part in parts
            ]
        elif name in message:
            redacted[name] = _redact_value(parts, redact)
    return {name: redacted[name] for name in message if name in redacted} | redacted  # in the original order


def _redact_object(
    value: Mapping[str, Any], redact: _Redact, links: Collection[str] = (), without: Collection[str] = ()
) -> dict[str, Any]:
    """Redact an object's names and texts, except `links`; names that become equal are numbered."""
    redacted: dict[str, Any] = {}
    duplicates: Counter[str] = Counter()
    for name, item in value.items():
        if name in without:
            continue
        if name in links and isinstance(item, str) and len(item) <= MAX_NAME:
            redacted[name] = item
            continue
        new = name if name in _COMMON_NAMES or name in links else redact(name)
        while new in redacted or (new != name and new in value):
            duplicates[new] += 1
            numbered = f"{new} {duplicates[new] + 1}"
            if numbered not in redacted and numbered not in value:
                new = numbered
        redacted[new] = _redact_value(item, redact)
    return redacted


def _redact_value(value: Any, redact: _Redact) -> Any:
    match value:
        case str():
            return redact(value)
        case list():
            return [_redact_value(item, redact) for item in value]
        case dict():
            return _redact_object(value, redact)
        case int() | float() if _MIN_CARD_NUMBER < abs(value) < inf:
            written = str(int(value))  # a card number may have become a float
            redacted = redact(written)
            return value if redacted == written else redacted
    return value
