"""OTLP/HTTP by its specification: encodings, answers, limits, and what a bad part costs."""

import base64
import gzip
import io
import json
import zlib
from typing import Any

import pytest
from flask.testing import FlaskClient
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from werkzeug.test import TestResponse

from conversation.access.limits import MAX_EXPORT
from logging_store.errors import Misconfigured, StoreError, StoreUnavailable
from tests.api.test_problems import FailingStore, client_of
from tests.http_calls import transcript
from tests.otlp.builders import START, Sent, chat, json_span, json_traces, logs, record, trace, traces

PROTOBUF, JSON = "application/x-protobuf", "application/json"
WITHOUT_LENGTH = {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
HELLO = Sent(attributes=chat(session__id="s", user__id="ada"))


def export(
    client: FlaskClient, body: bytes, kind: str | None = PROTOBUF, path: str = "/v1/traces", **headers: str
) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(path, data=body, content_type=kind, headers=named)


def partly(answer: TestResponse) -> tuple[int, str]:
    """Return how many spans weren't taken, and the message."""
    assert answer.status_code == 200, answer.data
    if answer.mimetype == JSON:
        part = answer.get_json().get("partialSuccess", {})
        return int(part.get("rejectedSpans", 0)), part.get("errorMessage", "")
    assert answer.mimetype == PROTOBUF
    success = ExportTraceServiceResponse.FromString(answer.data).partial_success
    return success.rejected_spans, success.error_message


def status_of(answer: TestResponse) -> tuple[int, str]:
    """Return code and message of a `google.rpc.Status`, in the encoding of the request."""
    if answer.mimetype == JSON:
        body: dict[str, Any] = answer.get_json()
        return body["code"], body["message"]
    assert answer.mimetype == PROTOBUF
    data = answer.data
    assert (data[0], data[2]) == (0x08, 0x12)
    size, at = 0, 3
    while True:
        size |= (data[at] & 127) << 7 * (at - 3)
        at += 1
        if not data[at - 1] & 128:
            break
    assert len(data) == at + size
    return data[1], data[at:].decode()


@pytest.mark.every_store
@pytest.mark.parametrize("kind", [PROTOBUF, JSON, "application/protobuf", "application/json; charset=utf-8"])
def test_a_call_is_stored_and_readable(client: FlaskClient, kind: str) -> None:
    body = json_traces(json_span(HELLO)) if "json" in kind else traces(HELLO)
    answer = export(client, body, kind)
    assert partly(answer) == (0, "")
    assert answer.data == (b"{}" if "json" in kind else b"")
    (turn,) = transcript(client, "s")
    assert turn["prompt"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "The capital of Peru?"},
    ]
    assert (turn["response"], turn["status"], turn["model"]) == ("Lima.", "completed", "gpt-5-mini-2026-08-07")
    assert (turn["latency_ms"], turn["started_at"]) == (250, "2026-09-21T14:13:20+00:00")
    assert (turn["trace_id"], turn["span_id"]) == (HELLO.trace, f"{1:016x}")
    assert client.get("/v1/sessions/s").get_json()["user_id"] == "ada"


@pytest.mark.every_store
def test_a_repeated_request_changes_nothing(client: FlaskClient) -> None:
    first = export(client, traces(HELLO))
    stored = transcript(client, "s")
    assert partly(first) == partly(export(client, traces(HELLO))) == (0, "")
    assert transcript(client, "s") == stored


def test_what_another_request_says_fills_the_call(client: FlaskClient) -> None:
    counts = {"gen_ai.operation.name": "chat", "gen_ai.usage.output_tokens": 5, "session.id": "s"}
    said = record("gen_ai.client.inference.operation.details", session__id="s", **{
        key.replace(".", "__"): value for key, value in chat().items() if "usage" not in key
    })  # fmt: skip
    answer = export(client, logs(said), path="/v1/logs")
    assert (answer.status_code, answer.data) == (200, b"")
    assert partly(export(client, traces(Sent(attributes=counts)))) == (0, "")
    (turn,) = transcript(client, "s")
    assert (turn["response"], turn["output_tokens"], turn["latency_ms"]) == ("Lima.", 5, 250)


def test_records_alone_make_an_interaction(client: FlaskClient) -> None:
    said = [
        record("gen_ai.user.message", {"content": "Hi"}, session__id="s"),
        record("gen_ai.choice", {"message": {"content": "Hello."}}, 5),
    ]
    export(client, logs(*said), path="/v1/logs")
    (turn,) = transcript(client, "s")
    assert (turn["prompt"], turn["response"], turn["status"]) == ("Hi", "Hello.", "completed")


def test_a_call_without_a_session_has_one_of_its_trace(client: FlaskClient) -> None:
    export(client, traces(Sent(attributes=chat())))
    assert len(transcript(client, f"trace:{HELLO.trace}")) == 1


def test_a_failed_call(client: FlaskClient) -> None:
    export(client, traces(Sent(attributes=chat(None, session__id="s"), error="529 Overloaded")))
    (turn,) = transcript(client, "s")
    assert (turn["status"], turn["error"], turn["response"]) == ("failed", "529 Overloaded", None)


def test_langfuse_s_address_and_its_way_to_send_a_key(client: FlaskClient) -> None:
    assert partly(export(client, traces(HELLO), path="/api/public/otel/v1/traces")) == (0, "")
    assert len(transcript(client, "s")) == 1


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", PROTOBUF),
        (b"{}", JSON),
        (b"", JSON),
        (b'{"resourceSpans": []}', JSON),
        (b'{"resourceSpans": [{"scopeSpans": null}]}', JSON),
    ],
)
@pytest.mark.parametrize("path", ["/v1/traces", "/v1/logs"])
def test_nothing_is_a_success(client: FlaskClient, body: bytes, kind: str, path: str) -> None:
    answer = export(client, body, kind, path)
    assert (answer.status_code, answer.mimetype) == (200, kind)
    assert answer.data == (b"{}" if kind == JSON else b"")


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip"])
def test_gzip(client: FlaskClient, encoding: str) -> None:
    assert partly(export(client, gzip.compress(traces(HELLO)), Content_Encoding=encoding)) == (0, "")
    assert len(transcript(client, "s")) == 1


def test_a_body_in_chunks_has_no_length(client: FlaskClient) -> None:
    body = gzip.compress(json_traces(json_span(HELLO)))
    answer = client.post(
        "/v1/traces",
        input_stream=io.BytesIO(body),
        content_type=JSON,
        headers={"Content-Encoding": "gzip"},
        environ_overrides=WITHOUT_LENGTH,
    )
    assert partly(answer) == (0, "")


@pytest.mark.parametrize(
    ("body", "kind", "headers", "status"),
    [
        (b"\x0a\xff\xff\xff", PROTOBUF, {}, 400),
        (b"<html>", PROTOBUF, {}, 400),
        (b"{not json", JSON, {}, 400),
        (b"[]", JSON, {}, 400),
        (b'{"resourceSpans": 5}', JSON, {}, 400),
        (gzip.compress(traces(HELLO))[:-12], PROTOBUF, {"Content_Encoding": "gzip"}, 400),
        (traces(HELLO), PROTOBUF, {"Content_Encoding": "gzip"}, 400),
        (traces(HELLO), PROTOBUF, {"Content_Encoding": "br"}, 415),
        (b"a=b", "text/plain", {}, 415),
        (traces(HELLO), None, {}, 415),
    ],
)
def test_what_cannot_be_decoded_is_refused(
    client: FlaskClient, body: bytes, kind: str | None, headers: dict[str, str], status: int
) -> None:
    answer = export(client, body, kind, **headers)
    assert answer.status_code == status
    code, message = status_of(answer)
    assert (code, bool(message)) == (3, True)
    assert answer.mimetype == (JSON if kind == JSON else PROTOBUF)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"x" * (MAX_EXPORT + 1), None),
        (gzip.compress(b"\0" * (MAX_EXPORT + 1)), "gzip"),
        (zlib.compress(b"\0" * 200_000_000, 9, wbits=31), "gzip"),
    ],
    ids=["long", "long after decompression", "bomb"],
)
def test_a_limit_that_holds_after_decompression_too(client: FlaskClient, body: bytes, encoding: str | None) -> None:
    answer = export(client, body, **({"Content_Encoding": encoding} if encoding else {}))
    assert answer.status_code == 413
    assert status_of(answer)[0] == 8
    assert "20 MB" in status_of(answer)[1]


def test_a_body_that_other_routes_refuse_is_taken(client: FlaskClient) -> None:
    long = Sent(attributes=chat("x" * 1000, session__id="s") | {"x": "y" * (17 << 20)})
    assert partly(export(client, traces(long))) == (0, "")


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (StoreUnavailable(), 503, 14, "2"),
        (Misconfigured(), 503, 14, "60"),
        (StoreError(), 503, 14, "60"),
        (RuntimeError(), 500, 13, None),
    ],
)
def test_a_failure_of_the_service(kind: str, error: Exception, status: int, code: int, retry_after: str | None) -> None:
    body = json_traces(json_span(HELLO)) if kind == JSON else traces(HELLO)
    answer = export(client_of(FailingStore(error)), body, kind)
    assert (answer.status_code, answer.mimetype, status_of(answer)[0]) == (status, kind, code)
    assert answer.headers.get("Retry-After") == retry_after


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/logs"])
def test_other_methods(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 405


def test_spans_with_bad_ids_are_rejected_and_their_neighbours_kept(client: FlaskClient) -> None:
    bad: list[dict[str, Any]] = [
        {"traceId": HELLO.trace[:30]},
        {"spanId": "ab" * 9},
        {"traceId": "0" * 32},
        {"spanId": "0" * 16},
        {"traceId": 5},
    ]
    bad.append({"traceId": base64.b64encode(bytes.fromhex(HELLO.trace)).decode()})
    rejected, message = partly(
        export(client, json_traces(json_span(HELLO), *(json_span(HELLO, **each) for each in bad)), JSON)
    )
    assert (rejected, "16 bytes" in message, "8 bytes" in message) == (6, True, True)
    assert len(transcript(client, "s")) == 1
    assert client.get("/v1/sessions").get_json()["sessions"][0]["key"] == "s"


def test_spans_that_are_no_objects_are_rejected(client: FlaskClient) -> None:
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [5, json_span(HELLO)]}]}]}).encode()
    assert partly(export(client, body, JSON))[0] == 1
    assert len(transcript(client, "s")) == 1


def test_json_by_otlp_s_own_rules(client: FlaskClient) -> None:
    span = json_span(HELLO, futureField={"a": [1]}, flags=256, droppedAttributesCount=0)
    span |= {"traceId": span["traceId"].upper(), "spanId": "E52E9EE653F46590", "endTimeUnixNano": START + 250_000_001}
    span["attributes"] += [{"key": "gen_ai.usage.cache_read.input_tokens", "value": {"intValue": 7}}]
    partly(export(client, json_traces(span), JSON))
    (turn,) = transcript(client, "s")
    assert (turn["trace_id"], turn["span_id"]) == (HELLO.trace, "e52e9ee653f46590")
    assert (turn["latency_ms"], turn["cached_input_tokens"]) == (pytest.approx(250), 7)


@pytest.mark.parametrize("code", [2, "2", "STATUS_CODE_ERROR"])
def test_a_status_in_json(client: FlaskClient, code: Any) -> None:
    span = json_span(HELLO, status={"code": code, "message": "broken"})
    partly(export(client, json_traces(span), JSON))
    assert transcript(client, "s")[0]["error"] == "broken"


def test_snake_case_is_an_unknown_field(client: FlaskClient) -> None:
    assert partly(export(client, b'{"resource_spans": [{"scope_spans": 5}]}', JSON)) == (0, "")


def test_values_that_json_cannot_hold_cost_nothing(client: FlaskClient) -> None:
    deep: Any = "x"
    for _ in range(8):
        deep = {"a": [deep]}
    odd = {
        "langfuse.trace.metadata.nan": float("nan"),
        "langfuse.trace.metadata.inf": float("-inf"),
        "langfuse.trace.metadata.bytes": b"\0\xff",
        "langfuse.trace.metadata.nul": "a\0b",
        "langfuse.trace.metadata.big": 2**63 - 1,
        "langfuse.trace.metadata.small": -(2**63),
        "langfuse.trace.metadata.empty": None,
        "langfuse.trace.metadata.deep": deep,
        "langfuse.trace.metadata.mixed": [1, "a", True, None, {"b": []}],
        "langfuse.trace.metadata.": "no name",
        "gen_ai.usage.cache_read.input_tokens": -5,
        "gen_ai.request.temperature": float("inf"),
    }
    assert partly(export(client, traces(Sent(attributes=chat(session__id="s") | odd)))) == (0, "")
    (turn,) = transcript(client, "s")
    assert turn["response"] == "Lima."
    assert {name: turn["metadata"][name] for name in ("nan", "inf", "bytes", "nul", "big", "mixed")} == {
        "nan": "nan", "inf": "-inf", "bytes": "AP8=", "nul": "a\N{SYMBOL FOR NULL}b", "big": "9223372036854775807",
        "mixed": [1, "a", True, None, {"b": []}],
    }  # fmt: skip


def test_a_fact_that_cannot_be_stored_costs_only_itself(client: FlaskClient) -> None:
    odd = Sent(attributes=chat(session__id="s") | {"gen_ai.response.model": "m" * 3000, "tag.tags": ["t" * 3000]})
    rejected, message = partly(export(client, traces(odd)))
    assert (rejected, "model" in message) == (0, True)
    (turn,) = transcript(client, "s")
    assert (turn["response"], turn["model"], turn["tags"]) == ("Lima.", None, [])


def test_what_an_erased_session_would_get_is_rejected(client: FlaskClient) -> None:
    export(client, traces(HELLO))
    client.delete("/v1/sessions/s")
    assert partly(export(client, traces(Sent(attributes=HELLO.attributes, span=2)))) == (1, "erased")


def test_feedback_on_a_call_and_on_its_session(client: FlaskClient) -> None:
    rated = {
        "openinference.span.kind": "EVALUATOR",
        "annotations.0.annotation.name": "helpful",
        "annotations.0.annotation.score": 0.5,
        "session.evaluations.0.evaluation.name": "mood",
        "session.evaluations.0.evaluation.label": "good",
    }
    partly(export(client, traces(HELLO, Sent("judge", rated, span=2, parent=1))))
    found = client.get("/v1/sessions/s/feedback").get_json()["feedback"]
    assert sorted((each["name"], each["value"], each["interaction_id"] is None) for each in found) == [
        ("helpful", 0.5, False),
        ("mood", "good", True),
    ]


def test_five_thousand_spans_in_one_request(client: FlaskClient) -> None:
    spans = [Sent("GET /", {"http.route": "/"}, span=n, trace=trace(n)) for n in range(1, 4501)]
    spans += [
        Sent(attributes=chat(f"Answer {n}", session__id=f"s-{n % 5}"), span=n, trace=trace(n))
        for n in range(4501, 5001)
    ]
    assert partly(export(client, gzip.compress(traces(*spans)), Content_Encoding="gzip")) == (0, "")
    sessions = client.get("/v1/sessions?limit=100").get_json()["sessions"]
    assert {each["key"]: each["interaction_count"] for each in sessions} == {f"s-{n}": 100 for n in range(5)}


def test_more_calls_than_one_transaction_takes(client: FlaskClient) -> None:
    spans = [Sent(attributes=chat(session__id="s"), span=n, trace=trace(n)) for n in range(1, 1302)]
    assert partly(export(client, traces(*spans))) == (0, "")
    assert client.get("/v1/sessions/s").get_json()["interaction_count"] == 1301


def test_records_that_are_not_of_a_conversation_are_dropped(client: FlaskClient) -> None:
    answer = export(client, logs(record("some.event", "text")), path="/v1/logs")
    assert ExportLogsServiceResponse.FromString(answer.data).partial_success.rejected_log_records == 0
    assert client.get("/v1/sessions").get_json()["sessions"] == []


def test_calls_of_other_users_keep_theirs(client: FlaskClient) -> None:
    def said_by(user: str, span: int) -> Sent:
        return Sent(attributes=chat(session__id="s", user__id=user), span=span, start=span)

    for spans in ([said_by("ada", 1), said_by("bob", 2)], [said_by("eve", 3)], [said_by("ada", 4)]):
        assert partly(export(client, traces(*spans))) == (0, "")
    assert client.get("/v1/sessions/s").get_json()["user_id"] == "ada"
    assert [turn["participant"] for turn in transcript(client, "s")] == ["ada", "bob", "eve", "ada"]
