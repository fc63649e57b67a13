"""What one request can cost, and what one bad span costs the others: once minutes, or the whole request."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from conversation.otlp import budget, joining, log_events, mapping, otlp_json, placement, protobuf, spans
from conversation.otlp.spans import Decoded, MappedSpan
from conversation.turns import shapes
from conversation.turns.message import to_content
from logging_store.records.json_values import MAX_MESSAGES
from tests.http_calls import transcript
from tests.otlp.builders import Sent, chat, json_span, json_traces, logs, record, trace, traces
from tests.otlp.test_protocol import HELLO, JSON, PROTOBUF, export, partly

MANY = MAX_MESSAGES + 1
ONES = f"[{','.join(['1'] * MANY)}]"
LONG = {"role": "user", "content": [{"type": "text", "text": "a"}] * MANY}


def read(*sent: Sent) -> tuple[list[MappedSpan], Decoded]:
    decoded = Decoded([each.to_span() for each in sent])
    return mapping.spans(decoded), decoded


@pytest.fixture
def read_items(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the items that are read as messages."""
    counts: list[int] = []
    real = shapes.read_each

    def counted(items: Any, *more: Any) -> Any:
        counts.append(len(items))
        return real(items, *more)

    monkeypatch.setattr(shapes, "read_each", counted)
    return counts


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.input.messages": ONES},
        {"gen_ai.output.messages": ONES},
        {"gen_ai.output.messages": json.dumps({"choices": [{"text": "a"}] * MANY})},
        {"gen_ai.output.messages": json.dumps({"output": [1] * MANY})},
        {"gen_ai.system_instructions": ONES},
        {"gen_ai.input.messages": json.dumps({"messages": [[1] * MANY]})},
        {"gen_ai.input.messages": json.dumps([LONG])},
        {"gen_ai.input.messages": json.dumps(LONG["content"])},
        {"openinference.span.kind": "LLM", **{f"llm.input_messages.{n}.message.content": "a" for n in range(MANY)}},
        {"langfuse.observation.type": "generation", "langfuse.observation.input": ONES},
        {"traceloop.span.kind": "task", "llm.request.type": "chat", "gen_ai.prompt": ONES},
    ],
)
def test_a_list_of_too_many_messages_is_not_read(attributes: dict[str, Any], read_items: list[int]) -> None:
    (other,), decoded = read(Sent(attributes=chat() | attributes), Sent(attributes=chat(), span=2))
    assert other.span_id == f"{2:016x}"
    assert (decoded.rejected, "10,000 messages" in decoded.reasons[0]) == (1, True)
    assert max(read_items) < 10


def test_a_span_has_a_budget_for_all_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MOST_OF_SPAN", 20)
    said = [("gen_ai.user.message", n, {"content": "a"}) for n in range(21)]
    call = {name: value for name, value in chat().items() if name != "gen_ai.input.messages"}
    (other,), decoded = read(Sent(attributes=call, events=said), Sent(attributes=chat(), span=2))
    assert (other.span_id, decoded.rejected) == (f"{2:016x}", 1)


def test_a_request_has_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MOST_OF_REQUEST", 3 * 5)  # three messages each
    found, decoded = read(*(Sent(attributes=chat(), span=n) for n in range(1, 8)))
    assert (len(found), decoded.rejected) == (5, 2)
    assert len(read(Sent(attributes=chat()))[0]) == 1  # each request has its own


@pytest.mark.parametrize("decode", ["protobuf", "json", "records"])
def test_spans_beyond_the_limit_are_rejected(monkeypatch: pytest.MonkeyPatch, decode: str) -> None:
    monkeypatch.setattr(spans, "MAX_SPANS", 3)
    sent = [Sent(attributes=chat(), span=n) for n in range(1, 6)]
    web = Sent("GET /", {"http.route": "/"}, span=9)
    if decode == "protobuf":
        decoded = protobuf.traces(traces(*sent, web))
    elif decode == "json":
        decoded = otlp_json.traces(json_traces(*map(json_span, [*sent, web])))
    else:
        decoded = protobuf.logs(logs(*(record("gen_ai.choice", {}, span=n) for n in range(1, 6))))
    assert (len(decoded.spans) + len(decoded.records), decoded.rejected) == (3, 2)
    assert "3 spans" in decoded.reasons[0]


def test_the_records_of_one_span_are_read_once() -> None:
    # copied for each record, 20,000 x 20,000 attributes take minutes
    said = [record("gen_ai.user.message", {"content": "a"}, **{f"a{n}": n}) for n in range(20_000)]
    (own,) = log_events.by_span(said)
    assert log_events.of_span(own).call is not None


def test_a_long_chain_with_one_id_is_one_call() -> None:
    same = chat(gen_ai__response__id="msg_1")
    chain = [Sent(attributes=same, span=n, parent=n - 1 or None) for n in range(1, 3001)]
    chain[0] = Sent(attributes=same, span=1, parent=3000, trace=trace(5))  # nothing of this trace is above it
    found, _ = read(*chain)
    looked_up = Looked({each.id: each.parent_id for each in found})
    assert [len(each) for each in joining.join(found, looked_up)] in ([2999, 1], [1, 2999])
    assert looked_up.count < 20 * len(chain)


class Looked(dict[Any, Any]):
    """Parents that count how often they are asked."""

    count = 0

    def get(self, *key: Any) -> Any:
        self.count += 1
        return super().get(*key)


def test_spans_in_a_circle_are_above_none() -> None:
    same = chat(gen_ai__response__id="msg_1")
    found, _ = read(Sent(attributes=same, span=1, parent=2), Sent(attributes=same, span=2, parent=1))
    assert joining.join(found, {each.id: each.parent_id for each in found})


def odd_attributes() -> list[dict[str, Any]]:
    digits, huge = "9" * 5000, "9" * 400
    return [
        {"openinference.span.kind": "LLM", f"llm.input_messages.{digits}.message.content": "a"},
        {f"annotations.{digits}.annotation.name": "a"},
        {"langfuse.observation.type": "generation", "langfuse.observation.cost_details": f'{{"total": {huge}}}'},
        {"langfuse.observation.type": "generation", "langfuse.observation.usage_details": f'{{"input": {huge}}}'},
        {"langfuse.observation.type": "generation", "langfuse.observation.input": f'[{{"role": {huge}}}]'},
        {"langfuse.trace.metadata.a": f'{{"b": {huge}}}', "langfuse.trace.metadata.session_id": f"[{huge}]"},
        {"gen_ai.output.messages": f'[{{"role": "assistant", "parts": [{{"type": "text", "content": {huge}}}]}}]'},
        {"gen_ai.output.messages": f'{{"usage": {{"input_tokens": {huge}}}, "content": "a"}}'},
        {"mlflow.spanType": "LLM", "mlflow.llm.cost": f'{{"total_cost": {huge}}}'},
        {"events": f'[{{"event.name": "gen_ai.choice", "message": {huge}}}]'},
    ]


@pytest.mark.parametrize("odd", odd_attributes(), ids=lambda odd: list(odd)[-1][:40])
def test_a_span_with_odd_numbers_costs_no_other(client: FlaskClient, odd: dict[str, Any]) -> None:
    answer = export(client, traces(HELLO, Sent(attributes=chat(session__id="odd") | odd, span=2)))
    assert partly(answer)[0] <= 1
    assert len(transcript(client, "s")) == 1


@pytest.mark.parametrize(
    "odd",
    [
        {"endTimeUnixNano": 10**400},
        {"startTimeUnixNano": 10**400},
        {"endTimeUnixNano": "9" * 20},
        {"attributes": [{"key": "operation.cost", "value": {"intValue": 10**400}}]},
        {"attributes": [{"key": "session.id", "value": {"intValue": 10**400}}]},
        {"attributes": [{"key": "operation.cost", "value": {"doubleValue": 10**400}}]},
        {"events": [{"name": "exception", "timeUnixNano": 10**400}]},
    ],
)
def test_odd_numbers_in_json_cost_no_other(client: FlaskClient, odd: dict[str, Any]) -> None:
    span = json_span(Sent(attributes=chat(session__id="odd"), span=2))
    span |= odd | {"attributes": span["attributes"] + odd.get("attributes", [])}
    assert partly(export(client, json_traces(json_span(HELLO), span), JSON))[0] == 0
    assert len(transcript(client, "s")) == 1
    assert len(transcript(client, "odd")) == 1


@pytest.mark.parametrize("error", [ValueError, OverflowError, RecursionError, KeyError])
def test_what_no_dialect_has_thought_of_costs_one_span(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    real = mapping.of_span

    def fails(span: spans.Span) -> MappedSpan:
        if span.name == "odd":
            raise error
        return real(span)

    monkeypatch.setattr(mapping, "of_span", fails)
    rejected, message = partly(export(client, traces(Sent("odd", chat(), span=2), HELLO)))
    assert (rejected, message) == (1, f"odd: It can't be read ({error.__name__})")
    assert len(transcript(client, "s")) == 1


def test_what_cannot_be_written_costs_one_span(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    real = to_content

    def fails(messages: Any, role: str) -> Any:
        if any(each.content == "odd" for each in messages):
            raise OverflowError
        return real(messages, role)

    monkeypatch.setattr(placement, "to_content", fails)
    rejected, message = partly(export(client, traces(Sent("odd", chat("odd"), span=2), HELLO)))
    assert (rejected, message) == (1, "odd: It can't be written (OverflowError)")
    assert len(transcript(client, "s")) == 1


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
@pytest.mark.parametrize("path", ["/v1/traces", "/v1/logs"])
def test_there_is_no_dry_run(client: FlaskClient, kind: str, path: str) -> None:
    body = traces(HELLO) if kind == PROTOBUF else json_traces(json_span(HELLO))
    answer = export(client, body, kind, f"{path}?dry_run=true")
    assert answer.status_code == 422
    assert b"no dry run" in answer.data
    assert client.get("/v1/sessions").get_json()["sessions"] == []
    assert export(client, b"", PROTOBUF, f"{path}?dry_run=false").status_code == 200
