"""Decodes OTLP in protobuf."""

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from conversation.otlp import ids, relevance, repair, values
from conversation.otlp.spans import Decoded, Event, LogRecord, Span, note

_ERROR = trace_pb2.Status.STATUS_CODE_ERROR


def traces(body: bytes) -> Decoded:
    """Return the spans of an `ExportTraceServiceRequest`. Raises `ValueError` if it is none."""
    decoded = Decoded()
    sent = _parse(ExportTraceServiceRequest, body, decoded)
    for resource in sent.resource_spans:
        for in_scope in resource.scope_spans:
            scope = in_scope.scope.name
            for span in in_scope.spans:
                _add_span(decoded, span, scope)
    return decoded


def logs(body: bytes) -> Decoded:
    """Return the log records of an `ExportLogsServiceRequest`. Raises `ValueError` if it is none."""
    decoded = Decoded()
    sent = _parse(ExportLogsServiceRequest, body, decoded)
    for resource in sent.resource_logs:
        for in_scope in resource.scope_logs:
            for record in in_scope.log_records:
                name = record.event_name or _event_name(record.attributes)
                if not name.startswith(relevance.EVENT_PREFIX):
                    decoded.dropped += 1
                    continue
                trace_id, span_id = record.trace_id.hex(), record.span_id.hex()
                if ids.accept(decoded, trace_id, span_id) and decoded.has_room():
                    time = record.time_unix_nano or record.observed_time_unix_nano
                    attributes, body_value = _values(record.attributes), _value(record.body)
                    decoded.records.append(
                        LogRecord(trace_id, span_id, name, in_scope.scope.name, time, attributes, body_value)
                    )
    return decoded


def _parse(kind: Any, body: bytes, decoded: Decoded) -> Any:
    try:
        return kind.FromString(body)
    except DecodeError as error:
        try:
            sent = kind.FromString(repair.message(kind.DESCRIPTOR, body))
        except (ValueError, DecodeError):
            raise ValueError(f"The body is no {kind.DESCRIPTOR.name}") from error
    note(decoded.reasons, repair.ALTERED)
    return sent


def _add_span(decoded: Decoded, span: trace_pb2.Span, scope: str) -> None:
    trace_id, span_id = span.trace_id.hex(), span.span_id.hex()
    if not ids.accept(decoded, trace_id, span_id):
        return
    parent_id = ids.parent(span.parent_span_id.hex())
    decoded.parents[trace_id, span_id] = parent_id
    if not relevance.is_relevant([each.key for each in span.attributes]):
        decoded.dropped += 1
        return
    if not decoded.has_room():
        return
    decoded.spans.append(
        Span(
            trace_id,
            span_id,
            parent_id,
            span.name,
            scope,
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            _values(span.attributes),
            [Event(each.name, each.time_unix_nano, _values(each.attributes)) for each in span.events],
            span.status.code == _ERROR,
            span.status.message,
        )
    )


def _event_name(attributes: Iterable[KeyValue]) -> str:
    return next((each.value.string_value for each in attributes if each.key == "event.name"), "")


def _values(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    """Return attributes by name; of several with one name the first."""
    found: dict[str, Any] = {}
    for each in attributes:
        if each.key and each.key not in found:
            found[each.key] = _value(each.value)
    return found


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "string_value":  # nearly always
        return value.string_value
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    if kind == "kvlist_value":
        return _values(value.kvlist_value.values)
    return None if kind is None else values.plain(getattr(value, kind))
