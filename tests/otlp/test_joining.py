"""Several spans that saw one call are one call; two calls stay two."""

import random
from datetime import datetime
from typing import Any

import pytest

from conversation.otlp import joining, mapping, placement
from conversation.otlp.spans import Decoded, MappedSpan
from tests.otlp.builders import Sent, chat, record, trace

SDK = "com.anthropic.sdk.python"
COUNTS = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 40, "gen_ai.usage.output_tokens": 5}


def decoded(*spans: Sent) -> Decoded:
    found = [each.to_span() for each in spans]
    return Decoded(found, parents={(each.trace_id, each.span_id): each.parent_id for each in found})


def stored(*spans: Sent) -> list[int]:
    """Return the numbers of the spans that are stored."""
    request = decoded(*spans)
    found = placement.records(mapping.spans(request), request.parents, placement.Outcome())
    return sorted(int(each.span_id, 16) for each in found)


def joined(*spans: Sent) -> list[list[MappedSpan]]:
    request = decoded(*spans)
    return joining.join(mapping.spans(request), request.parents)


def names(*spans: Sent) -> list[list[int]]:
    """Return the numbers of the spans of each call."""
    return sorted(sorted(int(each.span_id, 16) for each in call) for call in joined(*spans))


def twin(**more: Any) -> Sent:
    """Return a span without content, as an SDK's own instrumentation sends it."""
    attributes = COUNTS | more.pop("attributes", {})
    place: dict[str, Any] = {"span": 2, "scope": SDK, "start": 5, "end": 240}
    return Sent("anthropic.messages.create", attributes, **place | more)


@pytest.mark.parametrize("place", [{"parent": 1}, {"parent": 9}, {"trace": trace(7)}])
def test_one_provider_id_is_one_call(place: dict[str, Any]) -> None:
    known = {"gen_ai.response.id": "msg_1", "gen_ai.usage.cache_read.input_tokens": 3}
    (call,) = joined(twin(attributes=known, **place), Sent(attributes=chat(gen_ai__response__id="msg_1")))
    assert [each.span_id[-1] for each in call] == ["1", "2"]  # the first has the content


def test_a_cache_answers_a_later_call_with_the_same_id() -> None:
    same = chat(gen_ai__response__id="chatcmpl-1")
    assert names(Sent(attributes=same), Sent(attributes=same, span=2, start=5000, end=5001)) == [[1], [2]]
    other = Sent(attributes=same, span=2, start=5000, end=5001, scope="another")
    assert names(Sent(attributes=same), other) == [[1], [2]]


def test_a_server_that_repeats_its_ids_joins_pairs_and_no_callers() -> None:
    same = chat(gen_ai__response__id="chatcmpl-1")
    spans = [Sent(attributes=same, span=n, start=n * 10) for n in range(1, 4)]
    spans += [Sent(attributes=same, span=n + 10, start=n * 10 + 1, scope=SDK) for n in range(1, 4)]
    assert names(*spans) == [[1, 11], [2, 12], [3, 13]]
    callers = [
        Sent(attributes=same | {"session.id": "a"}),
        Sent(attributes=same | {"session.id": "b"}, span=2, scope=SDK),
    ]
    assert names(*callers) == [[1], [2]]


def test_calls_of_one_instrumentation_at_one_time_stay_apart() -> None:
    assert names(*(Sent(attributes=chat(), span=n, start=n) for n in range(1, 6))) == [[n] for n in range(1, 6)]


@pytest.mark.parametrize("place", [{"parent": 1}, {"parent": 9}, {"trace": trace(7)}])
def test_a_failure_seen_twice_is_one(place: dict[str, Any]) -> None:
    failed = twin(error="overloaded", attributes={"error.type": "overloaded_error"}, **place)
    assert names(Sent(attributes=chat(None), error="529"), failed) == [[1, 2]]
    assert names(Sent(attributes=chat(None), error="529"), failed, twin(span=3)) == [[1, 2], [3]]


def test_parallel_failures_are_joined_in_pairs() -> None:
    spans = [Sent(attributes=chat(None), error="529", span=n, start=n * 10, end=300 + n) for n in range(1, 4)]
    spans += [twin(error="529", span=n + 10, start=n * 10 + 1, end=299 + n) for n in range(1, 4)]
    assert [len(group) for group in names(*spans)] == [2, 2, 2]


def test_the_same_answer_at_the_same_time_is_one_call() -> None:
    outer = Sent(attributes=chat(), scope="langchain", start=0, end=300)
    assert names(outer, Sent(attributes=chat(), span=2, start=5, end=290, trace=trace(7))) == [[1, 2]]
    assert names(outer, Sent(attributes=chat("Quito."), span=2, start=5, end=290, trace=trace(7))) == [[1], [2]]
    assert names(outer, Sent(attributes=chat(), span=2, start=400, end=500, trace=trace(7))) == [[1], [2]]


def test_a_span_around_one_call_is_that_call_and_around_several_none() -> None:
    around = {"openinference.span.kind": "LLM", "output.value": "Lima.", "input.value": "a template"}
    inner = Sent(attributes=chat(), span=2, parent=1, start=5, end=240)
    (call,) = joined(Sent("predict", around), inner)
    assert [each.span_id[-1] for each in call] == ["2", "1"]
    second = Sent(attributes=chat("Quito."), span=3, parent=1, start=245, end=249)
    assert names(Sent("predict", around), inner, second) == [[2], [3]]


def test_records_of_a_span_fill_it() -> None:
    request = decoded(Sent(attributes=COUNTS | {"gen_ai.response.model": "m"}))
    request.records = [
        record("gen_ai.choice", {"index": 0, "finish_reason": "stop", "message": {"content": "Lima."}}, 200),
        record("gen_ai.user.message", {"content": "The capital of Peru?"}, 1),
        record("gen_ai.system.message", {"content": "Be brief."}),
    ]
    (call,) = joining.join(mapping.spans(request), request.parents)
    (span, records) = call
    assert records.call is not None
    assert [each.content for each in records.call.prompt] == ["Be brief.", "The capital of Peru?"]
    assert (records.call.response[0].content, records.call.finish_reason) == ("Lima.", "stop")
    assert (span.is_record, records.is_record) == (False, True)


def test_the_order_of_spans_changes_nothing() -> None:
    spans = [
        Sent(attributes=chat(gen_ai__response__id="msg_1"), span=1, parent=9),
        twin(attributes={"gen_ai.response.id": "msg_1"}),
        Sent(attributes=chat(None), error="529", span=3, start=400, end=500),
        twin(error="529", span=4, start=410, end=490, trace=trace(7)),
        Sent(attributes=chat("Quito."), span=5, start=600, end=700),
        Sent("POST /chat", {"session.id": "s", "user.id": "ada"}, span=9, scope="web"),
    ]
    found = set()
    for seed in range(20):
        shuffled = random.Random(seed).sample(spans, len(spans))
        request = decoded(*shuffled)
        records = placement.records(mapping.spans(request), request.parents, placement.Outcome())
        found.add(str(sorted(records, key=lambda each: each.span_id)))
    assert len(found) == 1


def test_a_circle_of_parents_ends() -> None:
    spans = [Sent(attributes=chat(), span=1, parent=2), Sent(attributes=chat("Quito."), span=2, parent=1, start=400)]
    assert names(*spans) == [[1], [2]]


def test_a_thousand_calls_at_once_are_compared_in_reasonable_time() -> None:
    begin = datetime.now().astimezone()
    spans = [
        Sent(
            attributes=chat(f"Answer {n % 7}"),
            span=n + 1,
            start=n / 100,
            end=900,
            scope=f"scope {n % 3}",
            trace=trace(n),
        )
        for n in range(1000)
    ]
    joined(*spans)
    assert (datetime.now().astimezone() - begin).total_seconds() < 20


def test_only_the_topmost_span_of_a_web_request_is_stored() -> None:
    own = {"session.id": "s", "user.id": "ada"}
    web = [Sent("GET /", own, span=1), Sent("select", own, span=2, parent=1), Sent("read", own, span=3, parent=2)]
    assert stored(*web) == [1]
    assert stored(*web[1:]) == [2]  # what is above it may come in another request
    assert stored(*web, Sent("other", own | {"session.id": "t"}, span=4, parent=3)) == [1, 2, 3, 4]
    assert stored(*web, Sent("chat", chat(), span=4, parent=3)) == [1, 2, 3, 4]
    assert stored(*web, Sent("chat", chat(), span=4, trace=trace(7))) == [1, 4]
