"""Exports for training hold each message once, only what was answered, and what trainers accept."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from conversation.archive.exporting import ExportItem
from conversation.archive.formats import fine_tuning, preference_pairs, session_traces
from conversation.archive.ratings import FeedbackFilter
from logging_store import operations as ops
from logging_store.records.models import Feedback, Interaction, Session
from logging_store.repository import ConversationRepository
from tests.archive import training_rules
from tests.archive.conftest import Flask
from tests.archive.test_export import lines

Json = dict[str, Any]

S = {"role": "system", "content": "Be short"}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
CALLS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "2", "tool_call_id": "c1"}


def user(text: Any) -> Json:
    return {"role": "user", "content": text}


def said(content: Any) -> Json:
    return {"role": "assistant", "content": content}


def answer(text: str) -> Json:
    return {"role": "assistant", "content": text}


def row(name: str, prompt: Any, response: Any, **more: Any) -> ops.Interaction:
    """Return an interaction as the store has it; a later letter or digit is said later."""
    at = f"2026-01-01T00:{ord(name[0]) - ord('0'):02d}:00+00:00"
    status = "completed" if response is not None else "pending"
    known = {"interaction_id": name, "prompt": prompt, "response": response, "status": status, "created_at": at}
    unknown = dict.fromkeys(
        (
            "key",
            "reply_to",
            "alternative_to",
            "chosen_at",
            "started_at",
            "completed_at",
            "model",
            "turn",
            "error",
            "erased_at",
            "text_expired_at",
        )
    )
    return cast("ops.Interaction", {**unknown, "metadata": {}, "alternatives": [], **known, **more})


def exported(*rows: ops.Interaction, feedback: Iterable[Json] = (), **session: Any) -> Iterator[ExportItem]:
    found = cast("ops.Session", {"session_id": "s", "key": None, "title": None, "metadata": {}, **session})
    given_feedback = (cast("ops.Feedback", {"name": "rating", "author": None, **each}) for each in feedback)
    yield ExportItem(None, found, (), iter(rows), given_feedback)


def parsed(parts: Iterable[bytes]) -> list[Json]:
    return [json.loads(line) for line in b"".join(parts).splitlines()]


def messages(*rows: ops.Interaction, **options: Any) -> list[Json]:
    """Return the messages of the one line that the rows make; none if they make none."""
    found = parsed(fine_tuning.write(exported(*rows), **options))
    for line in found:
        if not options:
            training_rules.check_chat(line)
    return found[0]["messages"] if found else []


def test_what_a_stateless_client_sends_again_is_there_once(client: FlaskClient, flask: Flask) -> None:
    sent: list[Json] = [S]
    for number, word in enumerate(("one", "two", "three"), start=1):
        sent = [*sent, user(f"{word}?")]
        body = {"session_id": "ft-1", "interaction_id": f"c{number}", "turn": number, "prompt": sent}
        assert client.post("/v1/interactions", json={**body, "response": str(number)}).status_code == 201
        sent = [*sent, answer(str(number))]
    (line,) = lines(flask("export", "--format", "openai-chat", "--session", "ft-1"))
    training_rules.check_chat(line)
    assert line == {"messages": sent}
    assert len(sent) == 7


@pytest.mark.parametrize(
    ("second", "new"),
    [
        (user("b"), [user("b")]),
        ([S, user("b")], [user("b")]),
        ([S, user("a"), answer("A"), user("b")], [user("b")]),
        ([user("a"), answer("A"), user("b")], [user("b")]),
        ([S, user("a"), answer("A"), user("a")], [user("a")]),
        # the newest messages only, and in another SDK's shape
        ([S, answer("A"), user("b")], [user("b")]),
        ([{"role": "developer", "content": "Be short"}, {"role": "human", "content": [{"type": "text", "text": "a"}]},
          {"role": "AI", "content": [{"type": "text", "text": "A"}], "id": "x"}, user("b")], [user("b")]),
        # other instructions, and a message that nobody logged
        ([{**S, "content": "Be long"}, user("a"), answer("A"), user("b")], [{**S, "content": "Be long"}, user("b")]),
        ([S, user("a"), answer("A"), user("lost"), answer("?"), user("b")], [user("lost"), answer("?"), user("b")]),
    ],
)  # fmt: skip
def test_only_what_is_new_in_a_prompt_is_added(second: Any, new: list[Json]) -> None:
    prompt = second if isinstance(second, list) else second["content"]
    found = messages(row("1", [S, user("a")], "A"), row("2", prompt, "B"))
    assert found == [S, user("a"), answer("A"), *new, answer("B")]


def test_a_history_with_an_edited_question_goes_back_to_its_place() -> None:
    first, edited = [user("a"), answer("A")], [user("a"), answer("A"), user("b, please")]
    assert messages(
        row("1", first[:1], "A"),
        row("2", [*first, user("b")], "B"),
        row("3", edited, "B!"),
        row("4", [*edited, answer("B!"), user("c")], "C"),
    ) == [*edited, answer("B!"), user("c"), answer("C")]
    # a regenerated answer
    again = [row("1", "a", "A"), row("2", [*first, user("b")], "B"), row("3", [*first, user("b")], "B!")]
    assert messages(*again) == [*first, user("b"), answer("B!")]


def test_only_answered_turns_are_there() -> None:
    rows = [
        row("1", [S, user("lost")], None),
        row("2", "a", "A"),
        row("3", "failed", None, error="rate limit", status="failed"),
        row("4", "stopped", "Half an ans", status="abandoned"),
        row("5", "growing", "Half", status="pending"),
        row("6", "[erased]", "[erased]", erased_at="2026-01-02T00:00:00+00:00"),
        row("6b", "[expired]", "[expired]", text_expired_at="2026-01-02T00:00:00+00:00"),
        row("7", "empty", ""),
        row("8", "blank", " \n"),
        row("9", "no message", [{"role": "assistant", "content": None}]),
        row("b", "b", "B"),
        row("c", "only thought", [{"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}]}]),
    ]
    assert messages(*rows) == [S, user("a"), answer("A"), user("b"), answer("B")]
    everything = messages(*rows, unanswered=True)
    training_rules.check_messages(everything)
    asked = ["lost", "a", "failed", "stopped", "growing", "empty", "blank", "no message", "b", "only thought"]
    assert [each["content"] for each in everything if each["role"] == "user"] == asked
    assert messages(rows[0], rows[2]) == []
    assert messages(rows[0], rows[2], unanswered=True) == []


def test_a_failed_attempt_is_left_out_and_its_retry_stays() -> None:
    assert messages(row("1", [S, user("a")], None, status="failed"), row("2", [S, user("a")], "A")) == [
        S, user("a"), answer("A")
    ]  # fmt: skip
    rows = [
        row("1", "a", [CALLS]),
        row("2", [RESULT], None, status="failed"),
        row("3", [RESULT], "A"),
    ]
    assert messages(*rows) == [user("a"), CALLS, RESULT, answer("A")]


@pytest.mark.parametrize(
    "rows",
    [
        [row("1", "a", [CALLS]), row("2", [RESULT], "A")],
        [row("1", "a", [CALLS, RESULT, answer("A")])],
        [row("1", "a", [CALLS]), row("2", [user("a"), CALLS, RESULT], "A")],
        # Anthropic's blocks, the AI SDK's parts
        [row("1", "a", [said([{"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}}])]),
         row("2", [user([{"type": "tool_result", "tool_use_id": "c1", "content": "2"}])], "A")],
        [row("1", "a", [{"role": "assistant", "parts": [
            {"type": "tool-add", "toolCallId": "c1", "state": "output-available", "input": {"a": 1}, "output": 2},
            {"type": "text", "text": "A"}]}])],
        # Gemini's and the older form of OpenAI's have no ids
        [row("1", "a", [{"role": "model", "parts": [{"functionCall": {"name": "add", "args": {"a": 1}}}]}]),
         row("2", [{"role": "user", "parts": [
            {"functionResponse": {"name": "add", "response": {"result": 2}}}]}], "A")],
        [row("1", "a", [{**said(None), "function_call": {"name": "add", "arguments": '{"a": 1}'}}]),
         row("2", [{"role": "function", "name": "add", "content": "2"}], "A")],
    ],
)  # fmt: skip
def test_calls_of_tools_come_with_their_results(rows: Sequence[ops.Interaction]) -> None:
    first, call, result, last = messages(*rows)
    assert (first, last) == (user("a"), answer("A"))
    (sent,) = call["tool_calls"]
    assert (sent["function"]["name"], json.loads(sent["function"]["arguments"])) == ("add", {"a": 1})
    assert result == {"role": "tool", "content": "2", "tool_call_id": sent["id"]}


def test_a_call_without_its_result_takes_its_turn_along() -> None:
    two = {**CALLS, "tool_calls": [CALL, {**CALL, "id": "c2"}]}
    for broken in (
        [row("1", "a", [CALLS])],
        [row("1", "a", [two]), row("2", [RESULT], "A")],
        [row("1", "a", "thinking"), row("2", [RESULT], "A")],
        [row("1", "a", [{**CALLS, "tool_calls": [{"id": "c1"}]}]), row("2", [RESULT], "A")],
    ):
        after = row("9", "z", "Z")
        assert messages(*broken, after)[-2:] == [user("z"), answer("Z")]
        training_rules.check_messages(messages(*broken, after, unanswered=True))
    assert messages(row("1", "a", [two]), row("2", [RESULT], "A"), unanswered=True) == [
        user("a"), CALLS, RESULT, answer("A")
    ]  # fmt: skip


def test_definitions_of_tools_come_along() -> None:
    function = {"name": "add", "description": "Adds", "parameters": {"type": "object"}}
    defined = [{"type": "function", "function": function}]
    responses = [{"type": "function", **function}]
    anthropic = [{"name": "add", "description": "Adds", "input_schema": {"type": "object"}}]
    for given_tools in (defined, responses, anthropic):
        of_interaction = exported(row("1", "a", "A", metadata={"tools": given_tools}), row("2", "b", "B"))
        of_session = exported(row("1", "a", "A"), metadata={"tools": given_tools})
        for item in (of_interaction, of_session):
            (line,) = parsed(fine_tuning.write(item))
            training_rules.check_chat(line)
            assert line["tools"] == defined
    assert "tools" not in parsed(fine_tuning.write(exported(row("1", "a", "A", metadata={"tools": "add"}))))[0]


PIXEL = "iVBORw0KGgo="


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
        {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
        {"inline_data": {"mime_type": "image/png", "data": PIXEL}},
        {"type": "file", "mediaType": "image/png", "url": f"data:image/png;base64,{PIXEL}"},
        {"type": "file", "mediaType": "image/png", "data": PIXEL},
        {"type": "image", "image": PIXEL},
    ],
)
def test_images_are_kept_as_parts(part: Json) -> None:
    asked, _ = messages(row("1", [user([{"type": "text", "text": "What is it?"}, part])], "A dot"))
    text, image = asked["content"]
    assert text == {"type": "text", "text": "What is it?"}
    assert image["image_url"]["url"] == f"data:image/png;base64,{PIXEL}"


def test_a_turn_that_the_format_cannot_hold_is_left_out() -> None:
    recording = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
    pictured = [{"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": "https://x.example/1"}}]}]
    for odd in (
        row("1", [user([recording])], "A"),
        row("1", "a", pictured),
        row("1", [{"role": "narrator", "content": "Once"}, user("a")], "A"),
        row("1", [{"role": "", "content": "a"}], "A"),
    ):
        assert messages(odd, row("2", "b", "B")) == [user("b"), answer("B")]


def test_a_refusal_a_name_and_a_thought() -> None:
    refused: Json = {"role": "assistant", "content": None, "refusal": "No.", "annotations": [], "audio": None}
    thought = [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "B"}]
    assert messages(
        row("1", [{**user("a"), "name": "ada"}], [refused]),
        row("2", [{**user("b"), "name": "not a name"}], [{"role": "assistant", "content": thought}]),
    ) == [
        {**user("a"), "name": "ada"},
        {"role": "assistant", "content": None, "refusal": "No."},
        user("b"),
        answer("B"),
    ]


def test_the_current_branch_is_exported() -> None:
    oak, lime = row("a", "Name a tree", "Oak."), row("b", None, "Lime.", reply_to="a")
    why = row("c", "Why?", "So.")
    assert messages(oak, lime, why) == [user("Name a tree"), answer("Lime."), user("Why?"), answer("So.")]
    assert messages(oak, {**why, "reply_to": "a"}, row("d", None, "Lime.", reply_to="a")) == [
        user("Name a tree"), answer("Lime.")
    ]  # fmt: skip
    edited = row("d", "Name a flower", "Poppy.", alternative_to="a")
    assert messages(oak, why, edited) == [user("Name a flower"), answer("Poppy.")]
    chosen = cast("ops.Interaction", {**oak, "chosen_at": "2026-02-01T00:00:00+00:00"})
    assert messages(chosen, why, edited) == [user("Name a tree"), answer("Oak."), user("Why?"), answer("So.")]
    # names that lead in a circle, to nothing, or to themselves
    odd = [row("a", "a", "A", reply_to="b"), row("b", "b", "B", reply_to="a"), row("c", "c", "C", alternative_to="c")]
    assert messages(*odd, row("d", "d", "D", reply_to="gone"))[-1] == answer("D")


def test_only_turns_with_the_feedback_are_trained_on(repository: ConversationRepository, flask: Flask) -> None:
    repository.write(
        [
            *(
                Interaction(session_id="a", interaction_id=f"{n}", turn=n, prompt=f"q{n}", response=f"a{n}")
                for n in range(1, 5)
            ),
            Interaction(session_id="b", interaction_id="1", prompt="x", response="y"),
            Feedback(session_id="a", interaction_id="1", value=False),
            Feedback(session_id="a", interaction_id="2", value=True),
            Feedback(session_id="a", interaction_id="3", value=True),
            Feedback(session_id="a", interaction_id="3", name="tone", value="kind"),
            Feedback(session_id="b", interaction_id="1", value=1),
        ]
    )  # fmt: skip

    def found(feedback: str) -> list[list[Json]]:
        told = lines(flask("export", "--format", "openai-chat", "--feedback", feedback))
        for line in told:
            training_rules.check_chat(line)
        return [line["messages"] for line in told]

    unrated = {"weight": 0}
    assert found("rating=true") == [
        [user("q1"), answer("a1") | unrated, user("q2"), answer("a2"), user("q3"), answer("a3")]
    ]
    assert found("rating=false") == [[user("q1"), answer("a1")]]
    assert found("rating=1") == found("rating=1.0") == [[user("x"), answer("y")]]
    assert found("tone=kind") == found('tone="kind"')
    assert [[each.get("weight", 1) for each in line[1::2]] for line in found("tone=kind")] == [[0, 0, 1]]
    assert found("tone=rude") == found("stars=true") == []
    assert "must be a name and a value" in flask("export", "--format", "openai-chat", "--feedback", "rating").stderr
    assert "--feedback goes with" in flask("export", "--feedback", "rating=true").stderr
    assert "--unanswered goes with" in flask("export", "--unanswered").stderr


def test_feedback_on_a_whole_session_is_on_each_of_its_turns() -> None:
    rows = [row("1", "a", "A"), row("2", "b", "B")]
    whole = [{"interaction_id": None, "value": True}]
    (line,) = parsed(fine_tuning.write(exported(*rows, feedback=whole), rated=FeedbackFilter("rating", value=True)))
    assert line["messages"] == [user("a"), answer("A"), user("b"), answer("B")]


def pairs(
    *rows: ops.Interaction, feedback: Iterable[Json], rated: str | None = None
) -> list[tuple[list[Json], list[Json], list[Json]]]:
    asked = FeedbackFilter.parse(rated) if rated else None
    feedback = list(feedback)
    trl = parsed(preference_pairs.write(exported(*rows, feedback=feedback), asked))
    openai = parsed(preference_pairs.write_openai(exported(*rows, feedback=feedback), asked))
    for line in trl:
        training_rules.check_trl_preference(line)
    for line in openai:
        training_rules.check_openai_preference(line)
    found = [(line["prompt"], line["chosen"], line["rejected"]) for line in trl]
    assert len(found) == len(openai)
    return found


def rating(name: str, /, value: Any, **more: Any) -> Json:
    return {"interaction_id": name, "value": value, **more}


def test_a_pair_is_two_answers_to_one_question() -> None:
    rows = [row("1", [S, user("Hi")], "Hello."), row("2", "Name a tree", "Oak."), row("3", None, "Lime.", reply_to="2")]
    edited = row("4", "Name a flower", "Poppy.", alternative_to="2")
    asked = [S, user("Hi"), answer("Hello."), user("Name a tree")]
    lime_over_oak = [(asked, [answer("Lime.")], [answer("Oak.")])]
    oak_over_lime = [(asked, [answer("Oak.")], [answer("Lime.")])]
    assert pairs(*rows, edited, feedback=[rating("3", value=True)]) == lime_over_oak
    assert pairs(*rows, edited, feedback=[rating("2", value=True), rating("3", value=False)]) == oak_over_lime
    # what nobody rated is better than what somebody disliked if it is the current one
    assert pairs(*rows, feedback=[rating("2", value=False)]) == lime_over_oak
    assert pairs(*rows, feedback=[rating("3", value=False)]) == []
    # nobody said which one is better
    assert pairs(*rows, edited, feedback=[]) == []
    assert pairs(*rows, feedback=[rating("2", value=True), rating("3", value=True)]) == []
    assert pairs(*rows, feedback=[rating("3", value=True, name="tone")]) == []
    # a person made it the current one
    chosen = cast("ops.Interaction", {**rows[1], "chosen_at": "2026-02-01T00:00:00+00:00"})
    assert pairs(rows[0], chosen, rows[2], feedback=[]) == oak_over_lime
    # the same question sent again, in the shape of a stateless client
    again = row("3", asked, "Lime.", alternative_to="2")
    assert pairs(*rows[:2], again, feedback=[rating("3", value=True)]) == lime_over_oak


def test_numbers_and_texts_order_answers() -> None:
    rows = [row("1", "a", "one"), row("2", None, "two", reply_to="1"), row("3", None, "three", reply_to="1")]
    stars = [rating("1", 2), rating("2", 5)]
    assert [(chosen[0]["content"], rejected[0]["content"]) for _, chosen, rejected in pairs(*rows, feedback=stars)] == [
        ("two", "one")
    ]  # fmt: skip
    words = [rating("2", "kind", name="tone"), rating("3", "rude", name="tone")]
    found = pairs(*rows, feedback=words, rated="tone=kind")
    assert [(chosen[0]["content"], rejected[0]["content"]) for _, chosen, rejected in found] == [
        ("two", "one"), ("two", "three")
    ]  # fmt: skip
    several = [rating("2", value=True, author="ada"), rating("2", value=False, author="bob")]
    assert pairs(*rows, feedback=several) == [([user("a")], [answer("three")], [answer("two")])]


def test_an_answer_that_calls_tools_is_one_answer() -> None:
    rows = [
        row("1", "a", "A", reply_to=None),
        row("2", None, [CALLS], alternative_to="1"),
        row("3", [RESULT], "It is 2.", reply_to="2"),
        row("4", "Thanks", "You are welcome.", reply_to="3"),
    ]
    ((asked, chosen, rejected),) = pairs(*rows, feedback=[rating("3", value=True)])
    assert (asked, rejected) == ([user("a")], [answer("A")])
    call, result, last = chosen
    assert (call["tool_calls"][0]["function"]["arguments"], last) == ({"a": 1}, answer("It is 2."))
    assert result == RESULT


def test_a_call_has_one_result() -> None:
    found = messages(row("1", [user("a"), CALLS, RESULT, RESULT], "It is 2."), unanswered=True)
    assert [each["role"] for each in found] == ["user", "assistant", "tool", "assistant"]


def test_a_history_that_goes_back_to_a_call_leaves_the_call_out() -> None:
    rows = [row("1", [user("a"), CALLS, RESULT], "It is 2."), row("2", [user("a"), CALLS, user("b")], "B")]
    assert messages(*rows) == [user("a"), user("b"), answer("B")]


def test_an_answer_with_a_question_in_it_makes_no_pair() -> None:
    rows = [row("1", "a", "one"), row("2", None, [user("b"), answer("two")], alternative_to="1")]
    assert pairs(*rows, feedback=[rating("1", value=True)]) == []


def test_answers_that_failed_make_no_pair() -> None:
    rows = [row("1", "a", None, status="failed"), row("2", None, "A", reply_to="1"), row("3", None, "", reply_to="1")]
    assert pairs(*rows, feedback=[rating("2", value=True)]) == []


def trace(*rows: ops.Interaction, **session: Any) -> list[Json]:
    found = parsed(session_traces.write(exported(*rows, **session)))
    training_rules.check_trace(found)
    return found


def test_a_trace_has_what_was_said_and_when() -> None:
    thought = [{"type": "thinking", "thinking": "Which one?"}, {"type": "text", "text": "Oak."}]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    at = "2026-01-01T00:00:0{}+00:00".format
    header, *found = trace(
        row("1", [S, user("a")], [CALLS], started_at=at(1), completed_at=at(2), model="small-1"),
        row("2", [RESULT], [{"role": "assistant", "content": thought}], started_at=at(3), completed_at=at(4),
            model="m"),
        row("3", [S, user("a"), CALLS, RESULT, answer("Oak."), user([{"type": "text", "text": "b"}, image])], None,
            started_at=at(5), status="failed"),
        title="Trees",
    )  # fmt: skip
    assert header == {"type": "session", "harness": "turnlog", "id": "s", "name": "Trees"}
    ms = 1_767_225_600_000
    call = {"id": "c1", "function": CALL["function"]}
    assert [line["message"] for line in found] == [
        {**S, "timestamp": ms + 1000},
        {**user("a"), "timestamp": ms + 1000},
        {"role": "assistant", "content": "", "toolCalls": [call], "timestamp": ms + 2000, "model": "small-1"},
        {"role": "tool", "content": "2", "toolCallId": "c1", "timestamp": ms + 3000},
        {
            "role": "assistant",
            "content": "Oak.",
            "reasoningContent": "Which one?",
            "timestamp": ms + 4000,
            "model": "m",
        },
        {"role": "user", "content": "b\n[image]", "timestamp": ms + 5000},
    ]


def test_traces_are_a_file_for_each_session(repository: ConversationRepository, flask: Flask, tmp_path: Path) -> None:
    repository.write(
        [Session(session_id="empty"), *(Interaction(session_id=n, prompt="q", response="a") for n in "xy")]
    )
    folder = tmp_path / "traces"
    result = flask("export", "--format", "sts", "-o", folder)
    assert result.exit_code == 0, result.output
    ids = {repository.session(name)["session_id"] for name in ("empty", "x", "y")}
    assert {file.name for file in folder.iterdir()} == {f"{name}.jsonl" for name in ids}
    for file in folder.iterdir():
        training_rules.check_trace([json.loads(line) for line in file.read_text().splitlines()])
    one = lines(flask("export", "--format", "sts", "--session", "x"))
    assert one[0]["name"] == "x"
    assert [line["message"]["role"] for line in one[1:]] == ["user", "assistant"]
    assert flask("export", "--format", "sts", "--session", "x", "-o", tmp_path / "x.jsonl").exit_code == 0
    assert "name a folder" in flask("export", "--format", "sts").stderr
    assert "so name a folder" in flask("export", "--format", "sts", "-o", tmp_path / "x.jsonl").stderr
    assert "is a folder: name a file" in flask("export", "-o", tmp_path).stderr


WORDS = st.sampled_from(["a", "b", "c", ""])
ITEMS = st.one_of(
    st.builds(user, WORDS),
    st.builds(user, st.lists(st.sampled_from([{"type": "text", "text": "t"}, {"type": "file"}]), max_size=2)),
    st.builds(answer, WORDS),
    st.sampled_from(
        [S, CALLS, RESULT, {**CALLS, "tool_calls": [CALL, {**CALL, "id": None}]}, {**RESULT, "tool_call_id": None}]
    ),
)  # fmt: skip
CONTENTS = st.none() | WORDS | st.lists(ITEMS, min_size=1, max_size=6)
ROWS = st.lists(
    st.tuples(
        CONTENTS,
        CONTENTS,
        st.sampled_from(["completed", "completed", "completed", "failed", "pending"]),
        st.sampled_from([None, None, "0", "1", "2"]),
        st.sampled_from([None, None, None, "0", "1", "2"]),
        st.booleans(),
    ),
    max_size=8,
)


@given(ROWS, st.sets(st.sampled_from("01234567")))
def test_whatever_was_logged_trainers_accept_what_is_exported(drawn: list[Any], liked: set[str]) -> None:
    rows: list[ops.Interaction] = []
    sent: list[Json] = []
    for n, (prompt, response, status, reply_to, alternative_to, stateless) in enumerate(drawn):
        asked = [*sent, *([user(prompt)] if isinstance(prompt, str) else prompt or [])] if stateless else prompt
        more = {"status": status, "reply_to": reply_to, "alternative_to": alternative_to}
        rows.append(row(str(n), asked or None, response, **more))
        if stateless and isinstance(response, str):
            sent = [*(asked or []), answer(response)]
    feedback = [rating(name, value=True) for name in liked]
    messages(*rows)
    training_rules.check_messages(messages(*rows, unanswered=True) or [user("")])
    asked_for = FeedbackFilter("rating", value=True)
    for line in parsed(fine_tuning.write(exported(*rows, feedback=feedback), rated=asked_for)):
        training_rules.check_chat(line)
    pairs(*rows, feedback=feedback)
    training_rules.check_trace(parsed(session_traces.write(exported(*rows))))


def test_a_long_session_is_exported_from_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fine_tuning, "_IN_MEMORY", 1000)
    monkeypatch.setattr(fine_tuning, "_READ_AT_ONCE", 100)
    rows = [row("0", f"q{n}", f"a{n}", interaction_id=str(n)) for n in range(250)]
    assert [each["content"] for each in messages(*rows)] == [f"{kind}{n}" for n in range(250) for kind in "qa"]
