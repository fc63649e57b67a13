"""Exporters cut long texts by bytes, which costs a character and not a request."""

import json

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from conversation.otlp import repair
from tests.http_calls import transcript
from tests.otlp.builders import Sent, chat, json_span, json_traces, logs, record, traces
from tests.otlp.test_protocol import JSON, PROTOBUF, export, partly, status_of

MARK = "[here]"
CUT = {"here": MARK, "nested": {"list": [MARK, 5]}}
SENT = Sent(f"chat {MARK}", chat(f"Lima.{MARK}", session__id="s") | CUT)


@pytest.mark.parametrize("cut", [b"abcd\xc3\xa9", b"abcde\xc3", b"ab\xf0\x9f\x98c", b"\xff\xfeabcd"])
def test_cut_utf_8_in_protobuf(client: FlaskClient, cut: bytes) -> None:
    assert len(cut) == len(MARK)
    body = traces(SENT, Sent(attributes=chat(session__id="s"), span=2)).replace(MARK.encode(), cut)
    rejected, message = partly(export(client, body))
    assert (rejected, "U+FFFD" in message) == (0, cut[-2:] != b"\xc3\xa9")
    assert [turn["response"] for turn in transcript(client, "s")] == [f"Lima.{cut.decode(errors='replace')}", "Lima."]


def test_cut_utf_8_in_log_records(client: FlaskClient) -> None:
    said = record("gen_ai.user.message", {"content": MARK}, session__id="s")
    answer = export(client, logs(said).replace(MARK.encode(), b"abcde\xc3"), path="/v1/logs")
    assert answer.status_code == 200
    assert transcript(client, "s")[0]["prompt"] == "abcde\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("escape", "read"),
    [
        (rb"\ud83d", "\N{REPLACEMENT CHARACTER}"),
        (rb"\uDE00!", "\N{REPLACEMENT CHARACTER}!"),
        (rb"\ud83d\ude00\ud83d", "\N{GRINNING FACE}\N{REPLACEMENT CHARACTER}"),
        (rb"\\ud83d\\\ud83d", "\\ud83d\\\N{REPLACEMENT CHARACTER}"),
        (b"abcde\xc3", "abcde\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_halves_of_pairs_in_json(client: FlaskClient, escape: bytes, read: str) -> None:
    span = json_span(Sent(attributes=chat(session__id="s")))
    span["attributes"] += [{"key": "langfuse.trace.metadata.a", "value": {"stringValue": MARK}}]
    rejected, message = partly(export(client, json_traces(span).replace(MARK.encode(), escape), JSON))
    assert (rejected, "U+FFFD" in message) == (0, True)
    assert transcript(client, "s")[0]["metadata"]["a"] == read


def test_what_is_no_message_is_refused_as_before(client: FlaskClient) -> None:
    body = traces(SENT).replace(MARK.encode(), b"abcde\xc3")
    for broken in (body[:-3], b"\x0b" + body, b"\x0a\x05\xff"):
        answer = export(client, broken, PROTOBUF)
        assert (answer.status_code, status_of(answer)[0]) == (400, 3)


def test_a_body_of_very_many_fields_is_not_repaired() -> None:
    with pytest.raises(ValueError, match="too much"):
        repair.message(ExportTraceServiceRequest.DESCRIPTOR, b"\x0a\x00" * 600_000)


@given(st.binary(max_size=40), st.binary(max_size=10))
def test_any_bytes_are_repaired_or_refused(noise: bytes, key: bytes) -> None:
    kind = ExportTraceServiceRequest
    try:
        kind.FromString(repair.message(kind.DESCRIPTOR, noise))
    except Exception as error:  # noqa: BLE001 - whatever it is
        assert type(error).__name__ in {"ValueError", "DecodeError"}  # noqa: PT017
    whole = traces(SENT)
    assert repair.message(kind.DESCRIPTOR, whole) == whole
    repaired = repair.message(kind.DESCRIPTOR, whole.replace(MARK.encode(), (key + b"_" * 6)[:6]))
    assert kind.FromString(repaired)
    assert json.loads(repair.json_text(json_traces(json_span(SENT))))


@pytest.mark.parametrize("name", ["session.id", "user.id", "langfuse.trace.metadata.session_id"])
def test_a_name_that_is_too_long_is_noted(client: FlaskClient, name: str) -> None:
    rejected, message = partly(export(client, traces(Sent(attributes=chat() | {name: "x" * 201}))))
    assert (rejected, "200 characters" in message) == (0, True)
