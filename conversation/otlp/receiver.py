"""The routes of OTLP/HTTP: traces and logs of any application that is instrumented for OpenTelemetry.

OTLP has a specification of its own, so /openapi.json doesn't describe them.
"""

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response
from flask.globals import request_ctx
from pydantic_core import from_json

from conversation import access
from conversation.access.limits import MAX_EXPORT
from conversation.api import caller, requests
from conversation.otlp import mapping, otlp_json, placement, protobuf, protocol
from conversation.otlp.protocol import Signal
from conversation.otlp.spans import Decoded, note
from conversation.refusals.codes import Refused

blueprint = Blueprint("otlp", __name__)

_PROBLEM = "application/problem+json"
_DECODERS: dict[tuple[Signal, str], Callable[[bytes], Decoded]] = {
    ("traces", protocol.PROTOBUF): protobuf.traces,
    ("traces", protocol.JSON): otlp_json.traces,
    ("logs", protocol.PROTOBUF): protobuf.logs,
    ("logs", protocol.JSON): otlp_json.logs,
}


@blueprint.post("/v1/traces")
@blueprint.post("/api/public/otel/v1/traces")  # which Langfuse's SDKs append to their host
@access.requires("log")
def export_traces() -> Response:
    return _export("traces")


@blueprint.post("/v1/logs")
@access.requires("log")
def export_logs() -> Response:
    return _export("logs")


def _export(signal: Signal) -> Response:
    request = request_ctx.request
    kind = protocol.encoding(request)
    if request.query_string and request.args.get("dry_run", "false") != "false":
        raise Refused("invalid", "This call has no dry run; nothing was written")
    body = requests.plain_body(MAX_EXPORT)
    try:
        decoded = _DECODERS[signal, kind](body)
    except ValueError as error:
        raise Refused("bad-request", str(error)) from error
    del body
    repository = caller.repository()
    mapped = mapping.spans(decoded)
    repository.ledger.reject(decoded.rejected)
    outcome = placement.place(repository, mapped, decoded.parents)
    reasons = list(decoded.reasons)
    for reason in outcome.reasons:
        note(reasons, reason)
    return protocol.answer(signal, kind, decoded.rejected + outcome.rejected, "; ".join(reasons))


@blueprint.after_request
def _as_status(response: Response) -> Response:
    """Return a problem as a `google.rpc.Status`, which is all that exporters read."""
    if response.mimetype != _PROBLEM:
        return response
    problem: dict[str, Any] = from_json(response.get_data())
    answer = protocol.failure(response.status_code, f"{problem['detail']} ({problem['code']})", request_ctx.request)
    for name in ("Retry-After", "WWW-Authenticate"):
        if name in response.headers:
            answer.headers[name] = response.headers[name]
    return answer
