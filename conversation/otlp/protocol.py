"""OTLP/HTTP's own rules: which encodings a request may have, and how each answer is written in it.

An answer has the encoding of its request. A failure is a `google.rpc.Status`.
"""

from typing import Literal

from flask import Request, Response
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from pydantic_core import to_json

from conversation.otlp import repair
from conversation.refusals.codes import Refused

Signal = Literal["traces", "logs"]

PROTOBUF, JSON = "application/x-protobuf", "application/json"
_ALIASES = {"application/protobuf": PROTOBUF}
#: The codes of google.rpc.Code for statuses of HTTP.
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 409: 10, 413: 8, 415: 3, 422: 3, 429: 8, 500: 13, 503: 14}
_UNKNOWN = 2
_MAX_MESSAGE = 1000  # characters


def encoding(request: Request) -> str:
    """Return the encoding of a request's body. Raises `Refused`."""
    kind = _ALIASES.get(request.mimetype, request.mimetype)
    if kind not in {PROTOBUF, JSON}:
        raise Refused("unsupported-media-type", f"Send OTLP with Content-Type: {PROTOBUF} or {JSON}")
    return kind


def answer(signal: Signal, kind: str, rejected: int, message: str) -> Response:
    """Return the answer to a request that was taken. `rejected`: how many spans or records weren't."""
    message = message[:_MAX_MESSAGE]
    if kind == JSON:
        name = "rejectedSpans" if signal == "traces" else "rejectedLogRecords"
        part = {name: str(rejected), "errorMessage": message}
        return Response(to_json({"partialSuccess": part} if rejected or message else {}), content_type=JSON)
    body: ExportTraceServiceResponse | ExportLogsServiceResponse
    if signal == "traces":
        body = ExportTraceServiceResponse()
        body.partial_success.rejected_spans = rejected
    else:
        body = ExportLogsServiceResponse()
        body.partial_success.rejected_log_records = rejected
    body.partial_success.error_message = message
    if not rejected and not message:
        body.ClearField("partial_success")
    return Response(body.SerializeToString(), content_type=PROTOBUF)


def failure(status: int, message: str, request: Request) -> Response:
    """Return a failure in the encoding of its request; in protobuf where that is unknown."""
    code, message = _CODES.get(status, _UNKNOWN), message[:_MAX_MESSAGE]
    if request.mimetype == JSON:
        return Response(to_json({"code": code, "message": message}), status, content_type=JSON)
    text = message.encode()
    # a Status has its code in field 1 and its message in field 2
    body = bytes([0x08, code, 0x12]) + repair.written(len(text)) + text
    return Response(body, status, content_type=PROTOBUF)
