"""Whose conversation a call belongs to, by what the spans of its request say."""

from typing import Any

import pytest

from conversation.otlp import mapping, placement
from tests.otlp.builders import TRACE, Sent, chat, trace
from tests.otlp.test_joining import decoded


def owners(*spans: Sent) -> list[tuple[str, str | None]]:
    request = decoded(*spans)
    return [(each.session, each.user) for each in placement.interactions(mapping.spans(request), request.parents)]


def call(**more: Any) -> Sent:
    return Sent(attributes=chat(**more.pop("attributes", {})), **more)


MINE, ABOVE, INVENTED = {"session__id": "mine"}, {"session.id": "above"}, {"gen_ai__conversation__id": "made-up"}


@pytest.mark.parametrize(
    ("spans", "session"),
    [
        ([call(attributes=MINE, parent=2), Sent("web", ABOVE, span=2)], "mine"),
        ([call(parent=2), Sent("web", ABOVE, span=2)], "above"),
        (
            [
                call(parent=3),
                Sent("step", {"traceloop.span.kind": "task"}, span=3, parent=2),
                Sent("web", ABOVE, span=2),
            ],
            "above",
        ),
        ([call(parent=3), Sent("nothing", {}, span=3, parent=2), Sent("web", ABOVE, span=2)], "above"),
        ([call(attributes=INVENTED, parent=2), Sent("web", ABOVE, span=2)], "above"),
        ([call(attributes=INVENTED, parent=2), Sent("web", {}, span=2)], "made-up"),
        ([call(parent=2), Sent("web", {"gen_ai.conversation.id": "made-up"}, span=2)], "made-up"),
        ([call(parent=7), Sent("web", ABOVE, span=2)], "above"),  # what is between isn't here
        ([call(attributes=INVENTED, parent=7), Sent("web", ABOVE, span=2)], "above"),
        ([call(), Sent("beside", ABOVE, span=2)], "above"),
        ([call(parent=2), Sent("web", {"session.id": "[Scrubbed due to 'session']"}, span=2)], f"trace:{TRACE}"),
        ([call(), Sent("another trace", ABOVE, span=2, trace=trace(7))], f"trace:{TRACE}"),
    ],
)
def test_the_session_of_a_call(spans: list[Sent], session: str) -> None:
    for order in (spans, spans[::-1]):
        assert [found for found, _ in owners(*order)] == [session]


def test_the_nearest_span_above_counts() -> None:
    spans = [
        call(parent=2),
        Sent("inner", {"session.id": "inner", "user.id": "bob"}, span=2, parent=3),
        Sent("outer", {"session.id": "outer", "user.id": "ada"}, span=3),
    ]
    assert owners(*spans) == [("inner", "bob")]


def test_one_trace_may_have_several_sessions() -> None:
    spans = [
        call(span=1, parent=11),
        Sent("task", {"session.id": "a"}, span=11, parent=20),
        call(span=2, parent=12),
        Sent("task", {"session.id": "b"}, span=12, parent=20),
        Sent("worker", {}, span=20),
    ]
    assert owners(*spans) == [("a", None), ("b", None)]


def test_the_session_of_one_of_two_spans_of_a_call_is_the_call_s() -> None:
    known = {"gen_ai__response__id": "msg_1"}
    spans = [
        call(attributes=known),
        Sent(attributes=chat(None, gen_ai__response__id="msg_1", session__id="s"), span=2, trace=trace(7), scope="sdk"),
    ]
    assert owners(*spans) == [("s", None)]


def test_a_user_comes_from_the_trace_as_well() -> None:
    assert owners(call(attributes=MINE), Sent("beside", {"user.id": "ada"}, span=2)) == [("mine", "ada")]
