"""Decodes OTLP in JSON, by OTLP's own rules.

Ids are hex, 64-bit integers are texts or numbers, enums are integers, unknown fields are ignored. Some encoders write
the names of enums, which are read as well. What isn't of the form it should have costs only the span that it is in.
"""

import math
import re
from collections.abc import Iterator
from typing import Any

import jiter

from conversation.otlp import ids, relevance, repair
from conversation.otlp.spans import Decoded, Event, LogRecord, Span, note

_HEX = re.compile(r"[0-9a-fA-F]+")
_DIGITS = re.compile(r"[0-9]{1,20}", re.ASCII)
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_MAX_TIME = 2**63
_ERROR = {2, "2", "STATUS_CODE_ERROR"}
_NOT_A_SPAN = "A span must be an object"


def traces(body: bytes) -> Decoded:
    """Return the spans of an `ExportTraceServiceRequest` in JSON. Raises `ValueError` if it is none."""
    decoded = Decoded()
    for scope, span in _items(_parse(body, decoded), "resourceSpans", "scopeSpans", "spans"):
        _add_span(decoded, span, scope)
    return decoded


def logs(body: bytes) -> Decoded:
    """Return the log records of an `ExportLogsServiceRequest` in JSON. Raises `ValueError` if it is none."""
    decoded = Decoded()
    for scope, record in _items(_parse(body, decoded), "resourceLogs", "scopeLogs", "logRecords"):
        if not isinstance(record, dict):
            decoded.reject("A log record must be an object")
            continue
        values = _values(record.get("attributes"))
        name = record.get("eventName") or values.get("event.name")
        if not isinstance(name, str) or not name.startswith(relevance.EVENT_PREFIX):
            decoded.dropped += 1
            continue
        trace_id, span_id = _id(record.get("traceId")), _id(record.get("spanId"))
        if ids.accept(decoded, trace_id, span_id) and decoded.has_room():
            time = _time(record.get("timeUnixNano")) or _time(record.get("observedTimeUnixNano"))
            decoded.records.append(LogRecord(trace_id, span_id, name, scope, time, values, _value(record.get("body"))))
    return decoded


def _parse(body: bytes, decoded: Decoded) -> dict[str, Any]:
    try:
        value = jiter.from_json(body or b"{}")
    except ValueError as error:
        try:
            value = jiter.from_json(repair.json_text(body))
        except ValueError:
            raise ValueError(f"The body is not valid JSON: {error}") from error
        note(decoded.reasons, repair.ALTERED)
    if not isinstance(value, dict):
        raise ValueError("The body must be an object")  # noqa: TRY004 - of JSON
    return value


def _items(sent: dict[str, Any], *names: str) -> Iterator[tuple[str, Any]]:
    """Yield each item of the innermost list with the name of its scope."""
    of_resources, of_scopes, of_items = names
    for resource in _list(sent, of_resources):
        for in_scope in _list(resource, of_scopes):
            scope = in_scope.get("scope")
            name = scope.get("name") if isinstance(scope, dict) else None
            for item in _list(in_scope, of_items):
                yield name if isinstance(name, str) else "", item


def _list(holder: Any, name: str) -> list[Any]:
    if not isinstance(holder, dict):
        raise ValueError(f"What holds {name} must be an object")  # noqa: TRY004 - of JSON
    value = holder.get(name)
    if value is not None and not isinstance(value, list):
        raise ValueError(f"{name} must be a list")
    return value or []


def _add_span(decoded: Decoded, span: Any, scope: str) -> None:
    if not isinstance(span, dict):
        decoded.reject(_NOT_A_SPAN)
        return
    trace_id, span_id = _id(span.get("traceId")), _id(span.get("spanId"))
    if not ids.accept(decoded, trace_id, span_id):
        return
    parent_id = ids.parent(_id(span.get("parentSpanId")))
    decoded.parents[trace_id, span_id] = parent_id
    attributes = span.get("attributes")
    if not relevance.is_relevant(_names(attributes)):
        decoded.dropped += 1
        return
    if not decoded.has_room():
        return
    status = span.get("status")
    status = status if isinstance(status, dict) else {}
    code = status.get("code")
    decoded.spans.append(
        Span(
            trace_id,
            span_id,
            parent_id,
            _text(span.get("name")),
            scope,
            _time(span.get("startTimeUnixNano")),
            _time(span.get("endTimeUnixNano")),
            _values(attributes),
            list(_events(span.get("events"))),
            isinstance(code, int | str) and code in _ERROR,
            _text(status.get("message")),
        )
    )


def _events(events: Any) -> Iterator[Event]:
    for each in events if isinstance(events, list) else ():
        if isinstance(each, dict):
            yield Event(_text(each.get("name")), _time(each.get("timeUnixNano")), _values(each.get("attributes")))


def _names(attributes: Any) -> Iterator[str]:
    for each in attributes if isinstance(attributes, list) else ():
        if isinstance(each, dict) and isinstance(key := each.get("key"), str):
            yield key


def _values(attributes: Any) -> dict[str, Any]:
    """Return attributes by name; of several with one name the first."""
    values: dict[str, Any] = {}
    for each in attributes if isinstance(attributes, list) else ():
        if isinstance(each, dict) and isinstance(key := each.get("key"), str) and key and key not in values:
            values[key] = _value(each.get("value"))
    return values


def _value(value: Any) -> Any:
    match value:
        case {"stringValue": str(text)}:
            return text
        case {"boolValue": bool(flag)}:
            return flag
        case {"intValue": int() | str() as number}:
            return _integer(number)
        case {"doubleValue": int() | float() | str() as number}:
            return _double(number)
        case {"bytesValue": str(text)}:
            return text  # base64
        case {"arrayValue": {"values": list(values)}}:
            return [_value(each) for each in values]
        case {"arrayValue": dict()}:
            return []
        case {"kvlistValue": dict(held)}:
            return _values(held.get("values"))
    return None


def _integer(number: int | str) -> Any:
    """Return an integer of 64 bits; any other as a text."""
    if isinstance(number, str):
        if not _INTEGER.fullmatch(number):
            return number
        number = int(number)
    return number if -_MAX_TIME <= number < _MAX_TIME else str(number)


def _double(number: float | str) -> Any:
    """Return a number; as a text if JSON hasn't it."""
    try:
        found = float(number)
    except (ValueError, OverflowError):
        return str(number)
    return found if math.isfinite(found) else str(number)


def _id(value: Any) -> str:
    """Return an id in lower hex; empty if it is none. An id in base64 is none, though its length may be right."""
    return value.lower() if isinstance(value, str) and _HEX.fullmatch(value) else ""


def _time(value: Any) -> int:
    """Return nanoseconds. A number past 2^53 is an integer here, as it is in the text."""
    match value:
        case bool():
            return 0
        case int():
            return value if 0 <= value < _MAX_TIME else 0
        case float() if 0 <= value < _MAX_TIME:
            return int(value)
        case str() if _DIGITS.fullmatch(value) and int(value) < _MAX_TIME:
            return int(value)
    return 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
