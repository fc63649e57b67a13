"""Whose conversation a call belongs to, whatever comes first."""

import itertools
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.otlp.builders import TRACE, Sent, chat, trace, traces


def export(client: FlaskClient, *requests: list[Sent]) -> None:
    for spans in requests:
        answer = client.post("/v1/traces", data=traces(*spans), content_type="application/x-protobuf")
        assert (answer.status_code, answer.data) == (200, b"")


def owners(client: FlaskClient) -> list[tuple[str, str | None]]:
    """Return the session and the user of each call, and check that no session is empty."""
    found = []
    for session in client.get("/v1/sessions").get_json()["sessions"]:
        turns = client.get(f"/v1/sessions/{session['session_id']}/interactions?branches=all").get_json()["interactions"]
        assert turns, f"{session['key']} is left behind"
        found += [(session["key"], session["user_id"])] * len(turns)
    return sorted(found)


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
@pytest.mark.every_store
def test_the_session_of_a_call(client: FlaskClient, spans: list[Sent], session: str) -> None:
    export(client, spans)
    assert [found for found, _ in owners(client)] == [session]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_spans_come_in_any_order(client: FlaskClient, order: tuple[int, ...]) -> None:
    spans = [
        call(attributes=INVENTED, parent=2),
        Sent("inner", {"traceloop.span.kind": "task"}, span=2, parent=3),
        Sent("outer", {"session.id": "outer", "user.id": "ada"}, span=3),
    ]
    export(client, *([spans[n]] for n in order))
    assert owners(client) == [("outer", "ada")]


def test_the_nearest_span_above_counts(client: FlaskClient) -> None:
    spans = [
        call(parent=2),
        Sent("inner", {"session.id": "inner", "user.id": "bob"}, span=2, parent=3),
        Sent("outer", {"session.id": "outer", "user.id": "ada"}, span=3),
    ]
    export(client, *([each] for each in spans))
    assert owners(client) == [("inner", "bob")]


def test_one_trace_may_have_several_sessions(client: FlaskClient) -> None:
    spans = [
        call(span=1, parent=11),
        Sent("task", {"session.id": "a"}, span=11, parent=20),
        call(span=2, parent=12),
        Sent("task", {"session.id": "b"}, span=12, parent=20),
        Sent("worker", {}, span=20),
    ]
    export(client, *([each] for each in spans))
    assert owners(client) == [("a", None), ("b", None)]


def test_the_session_of_one_of_two_spans_of_a_call_is_the_call_s(client: FlaskClient) -> None:
    known = {"gen_ai__response__id": "msg_1"}
    spans = [
        call(attributes=known),
        Sent(attributes=chat(None, gen_ai__response__id="msg_1", session__id="s"), span=2, trace=trace(7), scope="sdk"),
    ]
    export(client, *([each] for each in spans))
    assert owners(client) == [("s", None)]


def test_a_user_comes_from_the_trace_as_well(client: FlaskClient) -> None:
    export(client, [call(attributes=MINE)], [Sent("beside", {"user.id": "ada"}, span=2)])
    assert owners(client) == [("mine", "ada")]


def test_the_spans_of_a_turn_are_listed_with_those_between(client: FlaskClient) -> None:
    spans = [
        call(parent=2, attributes=MINE, start=20),
        Sent("nothing", {}, span=2, parent=3),
        Sent("agent", {"gen_ai.operation.name": "invoke_agent"}, span=3),
    ]
    export(client, spans)
    (turn,) = client.get("/v1/sessions/mine/interactions").get_json()["interactions"]
    listed = client.get(f"/v1/sessions/mine/interactions/{turn['interaction_id']}/spans").get_json()["spans"]
    assert {each["span_id"][-1]: each["kind"] for each in listed} == {"3": "agent", "2": "other", "1": "call"}
