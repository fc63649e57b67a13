"""Builds OTLP requests: spans and log records in either encoding, from plain values."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from conversation.otlp.spans import Event, LogRecord, Span

TRACE = "0af7651916cd43dd8448eb211c80319c"
START = 1_790_000_000_000_000_000  # nanoseconds
MS = 1_000_000


def trace(number: int) -> str:
    """Return the id of a trace of its own."""
    return f"{number:032x}"


@dataclass
class Sent:
    """A span to be sent. Ids are numbers or hex; times milliseconds after `START`."""

    name: str = "chat gpt-5-mini"
    attributes: Mapping[str, Any] = field(default_factory=dict)
    span: int = 1
    parent: int | None = None
    trace: str = TRACE
    scope: str = "opentelemetry.instrumentation.openai_v2"
    start: float = 0
    end: float = 250
    events: Sequence[tuple[str, float, Mapping[str, Any]]] = ()
    error: str | None = None

    def to_span(self) -> Span:
        """Return it as the decoders do."""
        return Span(
            self.trace,
            f"{self.span:016x}",
            None if self.parent is None else f"{self.parent:016x}",
            self.name,
            self.scope,
            START + int(self.start * MS),
            START + int(self.end * MS),
            self.attributes,
            [Event(name, START + int(at * MS), values) for name, at, values in self.events],
            self.error is not None,
            self.error or "",
        )


def any_value(value: Any) -> AnyValue:
    match value:
        case None:
            return AnyValue()
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case str():
            return AnyValue(string_value=value)
    found = AnyValue()
    if isinstance(value, Mapping):
        found.kvlist_value.SetInParent()
        found.kvlist_value.values.extend(key_values(value))
    else:
        found.array_value.SetInParent()
        found.array_value.values.extend(map(any_value, value))
    return found


def key_values(attributes: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]


def traces(*spans: Sent) -> bytes:
    """Return an `ExportTraceServiceRequest` in protobuf."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    for each in spans:
        in_scope = resource.scope_spans.add()
        in_scope.scope.name = each.scope
        decoded = each.to_span()
        added = in_scope.spans.add(
            trace_id=bytes.fromhex(decoded.trace_id),
            span_id=bytes.fromhex(decoded.span_id),
            parent_span_id=bytes.fromhex(decoded.parent_id or ""),
            name=decoded.name,
            start_time_unix_nano=decoded.start,
            end_time_unix_nano=decoded.end,
            attributes=key_values(decoded.attributes),
        )
        for event in decoded.events:
            added.events.add(name=event.name, time_unix_nano=event.time, attributes=key_values(event.attributes))
        if each.error is not None:
            added.status.code, added.status.message = added.status.STATUS_CODE_ERROR, each.error
    body: bytes = request.SerializeToString()
    return body


def json_value(value: Any) -> dict[str, Any]:
    match value:
        case None:
            return {}
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"stringValue": value}
        case Mapping():
            return {"kvlistValue": {"values": json_attributes(value)}}
    return {"arrayValue": {"values": list(map(json_value, value))}}


def json_attributes(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": json_value(value)} for key, value in attributes.items()]


def json_span(sent: Sent, **more: Any) -> dict[str, Any]:
    span = sent.to_span()
    status = {} if sent.error is None else {"code": 2, "message": sent.error}
    return {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "parentSpanId": span.parent_id or "",
        "name": span.name,
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.end),
        "attributes": json_attributes(span.attributes),
        "events": [
            {"name": each.name, "timeUnixNano": str(each.time), "attributes": json_attributes(each.attributes)}
            for each in span.events
        ],
        "status": status,
    } | more


def json_traces(*spans: dict[str, Any], scope: str = "ai") -> bytes:
    """Return an `ExportTraceServiceRequest` in JSON."""
    in_scope = {"scope": {"name": scope}, "spans": list(spans)}
    return json.dumps({"resourceSpans": [{"scopeSpans": [in_scope]}]}).encode()


def logs(*records: LogRecord) -> bytes:
    """Return an `ExportLogsServiceRequest` in protobuf."""
    request = ExportLogsServiceRequest()
    for each in records:
        in_scope = request.resource_logs.add().scope_logs.add()
        in_scope.scope.name = each.scope
        in_scope.log_records.add(
            trace_id=bytes.fromhex(each.trace_id),
            span_id=bytes.fromhex(each.span_id),
            event_name=each.name,
            time_unix_nano=each.time,
            attributes=key_values(each.attributes),
            body=any_value(each.body),
        )
    body: bytes = request.SerializeToString()
    return body


def record(name: str, body: Any = None, at: float = 0, span: int = 1, **attributes: Any) -> LogRecord:
    """Return a log record of a span. Dots in names of attributes are written as two underscores."""
    named = {key.replace("__", "."): value for key, value in attributes.items()}
    return LogRecord(TRACE, f"{span:016x}", name, "test", START + int(at * MS), named, body)


def chat(answer: str | None = "Lima.", *history: str, ask: str = "The capital of Peru?", **more: Any) -> dict[str, Any]:
    """Return the attributes of a call in OpenTelemetry's conventions. `history`: questions and answers before."""
    sent = [_message("system", "Be brief.")]
    sent += [_message("assistant" if n % 2 else "user", text) for n, text in enumerate(history)]
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5-mini",
        "gen_ai.input.messages": json.dumps([*sent, _message("user", ask)]),
    }
    if answer is not None:
        attributes |= {
            "gen_ai.response.model": "gpt-5-mini-2026-08-07",
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.usage.input_tokens": 40,
            "gen_ai.usage.output_tokens": 5,
            "gen_ai.output.messages": json.dumps([_message("assistant", answer) | {"finish_reason": "stop"}]),
        }
    return attributes | {name.replace("__", "."): value for name, value in more.items()}


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}
