"""Conversations with messages: the spellings, and how messages and interactions become each other."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.http_calls import in_path, log, paths, problem, transcript

UUID = "01890A5D-AC96-774B-BCCE-B302099A8057"
AT, LATER = "2026-11-21T06:30:00Z", "2026-11-21T06:30:05Z"


def start(client: FlaskClient, **body: Any) -> TestResponse:
    return client.post("/conversation/start", json=body)


def say(client: FlaskClient, conversation: str, role: str, content: Any, **more: Any) -> TestResponse:
    return client.post(f"/conversation/{conversation}/message", json={"role": role, "content": content, **more})


def messages(client: FlaskClient, conversation: str, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"/conversation/{conversation}{query}").get_json()["messages"]
    return found


def shown(client: FlaskClient, conversation: str, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(message[name] for name in names) for message in messages(client, conversation)]


def receipts(answer: TestResponse) -> list[str]:
    return [message["receipt"] for message in answer.get_json()["messages"]]


def test_a_start_answers_with_the_conversation(client: FlaskClient) -> None:
    first = start(client, conversation_id="c", user_id="ada", title="T", metadata={"a": 1})
    body = first.get_json()
    assert (first.status_code, body["success"], body["conversation_id"], body["receipt"]) == (201, True, "c", "created")
    assert body["session_id"] == client.get(in_path("c")).get_json()["session_id"]
    conversation = body["conversation"]
    assert (conversation["conversation_id"], conversation["session_id"]) == ("c", body["session_id"])
    assert (conversation["user_id"], conversation["title"], conversation["metadata"]) == ("ada", "T", {"a": 1})
    again = start(client, conversation_id="c", user_id="ada")
    assert (again.status_code, again.get_json()["receipt"]) == (200, "duplicate")
    assert again.get_json()["conversation"] == conversation


def test_a_conversation_that_a_message_began_is_adopted(client: FlaskClient) -> None:
    assert say(client, "c", "user", "Hi").status_code == 201
    adopted = start(client, conversation_id="c", user_id="ada")
    assert (adopted.status_code, adopted.get_json()["receipt"], adopted.get_json()["fields"]) == (
        200,
        "filled",
        ["user_id"],
    )


@pytest.mark.parametrize("name", ["conversation_id", "conversationId", "session_id", "sessionId"])
def test_every_spelling_of_the_id_means_the_same(client: FlaskClient, name: str) -> None:
    ids = start(client, **{name: UUID}).get_json()
    conversation, session = ("conversationId", "sessionId") if name[-2:] == "Id" else ("conversation_id", "session_id")
    assert (ids[conversation], ids[session]) == (UUID, UUID.lower())
    assert (ids["conversation"][conversation], ids["conversation"][session]) == (UUID, UUID.lower())


def test_two_names_of_a_field_may_agree_but_not_differ(client: FlaskClient) -> None:
    assert start(client, conversation_id="c", session_id="c", sessionId=None).status_code == 201
    assert start(client, conversation_id=None, session_id="c").get_json()["receipt"] == "duplicate"
    refused = start(client, conversation_id="c", session_id="d")
    assert refused.status_code == 422
    assert paths(refused) == ["$.conversation_id", "$.session_id"]
    assert "conversation_id and session_id are the same field" in problem(refused)["fields"][0]["detail"]


def test_camel_case_is_answered_where_it_is_used(client: FlaskClient) -> None:
    said = [{"role": "user", "content": "Hi", "messageId": "u"}]
    for body in ({"conversationId": "c", "userId": "ada", "messages": said}, {"messages": said}):
        answer = start(client, **body).get_json()
        assert set(answer) == {
            "success", "conversationId", "sessionId", "receipt", "fields", "conversation", "messages",
        }  # fmt: skip
        assert {"conversationId", "userId", "createdAt", "interactionCount"} <= set(answer["conversation"])
        assert answer["messages"] == [{"messageId": "u", "receipt": "created", "fields": []}]
    kept = say(client, "c", "assistant", "Hello", replyTo="u", messageId="a", createdAt=AT).get_json()
    assert (kept["conversationId"], kept["messageId"], kept["fields"]) == (
        "c",
        "a",
        ["createdAt", "messageId", "content"],
    )
    (_, answer) = messages(client, "c")
    assert (answer["message_id"], answer["reply_to"], answer["created_at"]) == ("a", "u", "2026-11-21T06:30:00+00:00")
    conflict = start(client, conversationId="c", userId="bob")
    assert (conflict.status_code, paths(conflict), problem(conflict)["conversationId"]) == (409, ["$.userId"], "c")


def test_what_messages_hold_keeps_its_spelling(client: FlaskClient) -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "some_key": {"someKey": 1}}]
    parts = [{"type": "image_url", "image_url": {"url": "x"}}]
    said = [{"role": "user", "content": parts}, {"role": "assistant", "content": None, "toolCalls": calls}]
    start(client, conversationId="c", metadata={"my_key": {"myKey": 1}}, messages=said)
    question, answer = messages(client, "c")
    assert (question["content"], answer["content"], answer["tool_calls"]) == (parts, None, calls)
    assert client.get(in_path("c")).get_json()["metadata"] == {"my_key": {"myKey": 1}}


def test_an_answer_completes_its_question_in_either_order(client: FlaskClient) -> None:
    asked = {"role": "user", "content": "Hi", "message_id": "u", "created_at": AT}
    answered = {"role": "assistant", "content": "Hello", "message_id": "a", "reply_to": "u", "timestamp": LATER}
    for name, said in (("c", [asked, answered]), ("d", [answered, asked])):
        statuses = [client.post(f"/conversation/{name}/message", json=message).status_code for message in said]
        assert statuses == [201, 200]
        assert shown(client, name, "role", "content", "message_id", "reply_to", "created_at") == [
            ("user", "Hi", "u", None, "2026-11-21T06:30:00+00:00"),
            ("assistant", "Hello", "a", "u", "2026-11-21T06:30:05+00:00"),
        ]
        (kept,) = transcript(client, name)
        assert (kept["key"], kept["prompt"], kept["response"], kept["status"]) == ("u", "Hi", "Hello", "completed")
        again = [client.post(f"/conversation/{name}/message", json=message).get_json()["receipt"] for message in said]
        assert again == ["duplicate", "duplicate"]


def test_an_answer_without_an_id_has_the_same_one_each_time(client: FlaskClient) -> None:
    first = say(client, "c", "assistant", "Hello", reply_to="u").get_json()
    assert shown(client, "c", "role", "reply_to") == [("assistant", "u")]
    start(client, conversation_id="c", messages=[{"role": "user", "content": "Hi", "message_id": "u"}])
    again = say(client, "c", "assistant", "Hello", reply_to="u").get_json()
    assert (first["receipt"], again["receipt"], first["message_id"]) == ("created", "duplicate", again["message_id"])
    assert shown(client, "c", "message_id") == [("u",), (first["message_id"],)]


def test_an_answer_alone_is_an_interaction_of_its_own(client: FlaskClient) -> None:
    named = say(client, "c", "assistant", "Welcome", message_id="a", created_at=AT)
    nameless = say(client, "c", "assistant", "Anybody there?").get_json()
    assert named.status_code == 201
    assert shown(client, "c", "role", "message_id", "reply_to") == [
        ("assistant", "a", None),
        ("assistant", nameless["message_id"], None),
    ]
    assert [(row["prompt"], row["response"]) for row in transcript(client, "c")] == [
        (None, "Welcome"),
        (None, "Anybody there?"),
    ]


def test_in_a_list_an_answer_belongs_to_the_question_before_it(client: FlaskClient) -> None:
    said = [("system", "Be kind"), ("assistant", "Welcome"), ("user", "One"), ("user", "Two"), ("assistant", "2"),
            ("tool", "result"), ("assistant", "done")]  # fmt: skip
    started = start(client, conversation_id="c", messages=[{"role": role, "content": text} for role, text in said])
    assert receipts(started) == ["created", "filled", "created", "created", "filled", "created", "filled"]
    assert shown(client, "c", "role", "content") == said
    rows = transcript(client, "c")
    assert [(row["prompt"], row["response"], row["status"]) for row in rows] == [
        ([{"role": "system", "content": "Be kind"}], "Welcome", "completed"),
        ("One", None, "pending"),
        ("Two", "2", "completed"),
        ([{"role": "tool", "content": "result"}], "done", "completed"),
    ]
    assert shown(client, "c", "reply_to")[4] == (rows[2]["interaction_id"],)


def test_resending_the_history_writes_only_its_tail(client: FlaskClient) -> None:
    history = [{"role": "user", "content": "One"}, {"role": "assistant", "content": "1"}]
    start(client, conversation_id="c", messages=history)
    longer = [*history, {"role": "user", "content": "Two"}, {"role": "assistant", "content": "2"}]
    answers = [start(client, conversation_id="c", messages=longer) for _ in range(2)]
    assert [receipts(answer) for answer in answers] == [
        ["duplicate", "duplicate", "created", "filled"],
        ["duplicate"] * 4,
    ]
    assert [text for (text,) in shown(client, "c", "content")] == ["One", "1", "Two", "2"]


def test_another_beginning_is_added_to_what_is_stored(client: FlaskClient) -> None:
    start(client, conversation_id="c", messages=[{"role": "user", "content": "One"}])
    other = [{"role": "user", "content": "Another"}, {"role": "assistant", "content": "1"},
             {"role": "user", "content": "Two"}]  # fmt: skip
    for outcomes in (["created", "filled", "created"], ["duplicate"] * 3):
        told = start(client, conversation_id="c", messages=other)
        assert (told.status_code, receipts(told)) == (200, outcomes)
    assert shown(client, "c", "content") == [("One",), ("Another",), ("1",), ("Two",)]


def test_other_messages_are_told_one_by_one(client: FlaskClient) -> None:
    start(client, conversation_id="c", messages=[{"role": "user", "content": "One", "message_id": "u"}])
    other = [{"role": "user", "content": "Another", "message_id": "u"}, {"role": "assistant", "content": "1"},
             {"role": "user", "content": "Two"}]  # fmt: skip
    told = start(client, conversation_id="c", messages=other)
    assert (told.status_code, receipts(told)) == (200, ["revised", "filled", "created"])
    assert shown(client, "c", "content") == [("Another",), ("1",), ("Two",)]
    again = start(client, conversation_id="c", messages=other)
    assert (again.status_code, receipts(again)) == (200, ["duplicate"] * 3)


def test_a_contradiction_is_named_in_the_words_of_the_message(client: FlaskClient) -> None:
    say(client, "c", "user", "Hi", message_id="u", created_at=AT, reply_to="x")
    say(client, "c", "assistant", "Hello", message_id="a", reply_to="u", created_at=AT)
    told = {
        "timestamp": say(client, "c", "user", "Hi", message_id="u", timestamp=LATER),
        "replyTo": say(client, "c", "user", "Hi", message_id="u", replyTo="y"),
        "createdAt": say(client, "c", "assistant", "Hello", replyTo="u", createdAt=LATER),
    }
    for name, answer in told.items():
        assert (answer.status_code, paths(answer)) == (409, [f"$.{name}"])


def test_another_answer_is_kept_beside_the_first(client: FlaskClient) -> None:
    start(client, conversation_id="c", messages=[
        {"role": "user", "content": "Name a tree", "message_id": "u1"},
        {"role": "assistant", "content": "Oak.", "message_id": "a1"},
    ])  # fmt: skip
    other = {"role": "assistant", "content": "Lime.", "message_id": "a2", "reply_to": "u1"}
    told = [client.post("/conversation/c/message", json=other) for _ in range(2)]
    assert [(each.status_code, each.get_json()["receipt"]) for each in told] == [(201, "created"), (200, "duplicate")]
    nameless = say(client, "c", "assistant", "Elm.", reply_to="u1").get_json()
    assert say(client, "c", "assistant", "Elm.", reply_to="u1").get_json()["message_id"] == nameless["message_id"]
    assert shown(client, "c", "message_id", "content", "reply_to") == [
        ("u1", "Name a tree", None),
        ("a1", "Oak.", "u1"),
        ("a2", "Lime.", "u1"),
        (nameless["message_id"], "Elm.", "u1"),
    ]
    first, second, third = transcript(client, "c")
    assert (second["alternative_to"], third["alternative_to"]) == (first["interaction_id"],) * 2
    # which one came last
    (_, *answered) = shown(client, "c", "created_at")
    assert sorted(set(answered)) == answered
    (current,) = client.get(f"{in_path('c')}/interactions").get_json()["interactions"]
    assert current["response"] == "Elm."


def test_a_message_of_a_user_may_reply_to_any_message(client: FlaskClient) -> None:
    start(
        client,
        conversation_id="c",
        messages=[
            {"role": "user", "content": "Hi", "message_id": "u"},
            {"role": "assistant", "content": "Hello", "message_id": "a"},
            {"role": "user", "content": "And you?", "message_id": "v", "reply_to": "a"},
            {"role": "tool", "content": "42", "message_id": "t", "reply_to": UUID, "tool_call_id": "call-1"},
        ],
    )
    assert shown(client, "c", "message_id", "reply_to") == [("u", None), ("a", "u"), ("v", "a"), ("t", UUID)]
    assert messages(client, "c")[3]["tool_call_id"] == "call-1"


def test_what_was_logged_otherwise_is_shown_as_messages(client: FlaskClient) -> None:
    prompt = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi", "name": "ada"}]
    log(client, session_id="c", interaction_id="i", prompt=prompt, response="Hello", started_at=AT, turn=1)
    log(client, session_id="c", interaction_id="j", error="no answer", turn=2)
    assert shown(client, "c", "role", "content", "message_id")[:2] == [
        ("system", "Be kind", None),
        ("user", "Hi", "i"),
    ]
    assert messages(client, "c")[1]["name"] == "ada"
    assert shown(client, "c", "role", "reply_to")[2:] == [("assistant", "i")]
    assert say(client, "c", "assistant", "Hello", reply_to="i").get_json()["receipt"] == "duplicate"


def test_messages_of_one_time_stay_in_the_order_of_the_list(client: FlaskClient) -> None:
    roles = ("user", "assistant")
    said = [
        {"role": roles[n % 2], "content": f"m{n}", "messageId": f"k{n}", "createdAt": "2026-03-01T10:00:00Z"}
        for n in range(10)
    ]
    assert start(client, conversationId="c", messages=said).status_code == 201
    assert [message["content"] for message in messages(client, "c")] == [f"m{n}" for n in range(10)]


def test_pages_go_by_interactions(client: FlaskClient) -> None:
    said = [{"role": role, "content": f"{role} {n}"} for n in range(3) for role in ("user", "assistant")]
    start(client, conversation_id="c", messages=said)
    read: list[dict[str, Any]] = []
    cursor = ""
    sizes = []
    while True:
        page = client.get(f"/conversation/c?limit=2{cursor}").get_json()
        read += page["messages"]
        sizes.append(len(page["messages"]))
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert (sizes, page["success"], page["conversation_id"], page["complete"]) == ([4, 2], True, "c", True)
    assert [message["content"] for message in read] == [message["content"] for message in said]


def test_unknown_and_erased_conversations(client: FlaskClient) -> None:
    assert problem(client.get("/conversation/c"))["status"] == 404
    start(client, conversation_id="c")
    client.delete(in_path("c"))
    gone = [
        client.get("/conversation/c"),
        start(client, conversation_id="c", messages=[{"role": "user", "content": "Hi"}]),
        start(client, conversation_id="c"),
        say(client, "c", "user", "Hi"),
    ]
    assert [problem(answer)["status"] for answer in gone] == [410] * 4
    bad = [client.get("/conversation/c?case=camel"), client.get("/conversation/c?cursor=x")]
    assert [paths(answer) for answer in bad] == [["?case"], ["?cursor"]]


def test_many_answers_do_not_multiply_their_question(client: FlaskClient) -> None:
    question = {"role": "user", "content": "a long one", "message_id": "u"}
    answers = [{"role": "assistant", "content": f"answer {n}", "reply_to": "u"} for n in range(9)]
    start(client, conversation_id="c", messages=[question, *answers])
    assert [row["prompt"] for row in transcript(client, "c")] == ["a long one"] + [None] * 8


@pytest.mark.parametrize(
    ("bad", "path"),
    [
        (1, "$.messages[1]"),
        ({"content": "x"}, "$.messages[1].role"),
        ({"role": "user"}, "$.messages[1].content"),
        ({"role": "user", "content": None}, "$.messages[1].content"),
        ({"role": "user", "content": "x", "replyTo": " "}, "$.messages[1].replyTo"),
        ({"role": "assistant", "tool_calls": [1]}, "$.messages[1].tool_calls[0]"),
        (
            {"role": "a", "toolCalls": [json.loads(b'{"a":' * 63 + b"1" + b"}" * 63)]},
            "$.messages[1].toolCalls[0]" + ".a" * 61,
        ),
    ],
)
def test_a_bad_message_costs_nothing_but_itself(client: FlaskClient, bad: Any, path: str) -> None:
    said = [{"role": "user", "content": "a", "id": 1}, bad, {"role": "user", "content": "c", "id": 3}]
    told = start(client, conversation_id="c", messages=said)
    assert (told.status_code, told.get_json()["success"]) == (207, False)
    found = told.get_json()["messages"]
    assert [each["receipt"] for each in found] == ["created", "rejected", "created"]
    assert [field["path"] for field in found[1]["fields"]] == [path]
    assert shown(client, "c", "message_id", "content") == [("1", "a"), ("3", "c")]
    assert start(client, conversation_id="c", messages=said).get_json()["messages"][2]["receipt"] == "duplicate"


@pytest.mark.parametrize(
    ("altered", "path"),
    [
        ({"role": "user", "content": [{"text": "a\0b"}]}, "$.messages[0].content[0].text"),
        ({"role": "user", "content": "x", "metadata": {"a": "b\0"}}, "$.messages[0].metadata.a"),
        ({"role": "user", "content": "x", "seed": 2**53 + 1}, "$.messages[0].seed"),
        ({"role": "assistant", "toolCalls": [{"n": 2**53 + 1}]}, "$.messages[0].toolCalls[0].n"),
    ],
)
def test_a_value_that_cannot_be_stored_is_altered(client: FlaskClient, altered: Any, path: str) -> None:
    for outcome in ("created", "duplicate"):
        told = start(client, conversation_id="c", messages=[altered])
        (receipt,) = told.get_json()["messages"]
        assert (receipt["receipt"], receipt["altered"]) == (outcome, [path])


def test_a_message_may_be_as_an_sdk_returns_it(client: FlaskClient) -> None:
    dumped: dict[str, Any] = {
        "message_id": "m2d", "role": "assistant", "content": "hi", "refusal": None, "annotations": [],
        "audio": None, "function_call": None, "tool_calls": None,
    }  # fmt: skip
    ui_message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}
    more = {"message_id": "m12", "role": "user", "content": "hi", "metadata": {"lang": "de"}}
    assert [client.post("/conversation/c/message", json=each).status_code for each in (dumped, ui_message, more)] == [
        201
    ] * 3
    assert shown(client, "c", "message_id", "role", "content") == [
        ("m2d", "assistant", "hi"),
        ("m1", "user", "Hi"),
        ("m12", "user", "hi"),
    ]
    assert messages(client, "c")[2]["metadata"] == {"lang": "de"}
    assert [row["response"] for row in transcript(client, "c")] == ["hi", None, None]


def test_a_system_message_that_comes_again_is_a_duplicate(client: FlaskClient) -> None:
    system = {"role": "system", "content": "Be kind"}
    once = [client.post("/conversation/c/message", json=system) for _ in range(2)]
    assert [(each.status_code, each.get_json()["receipt"]) for each in once] == [(201, "created"), (200, "duplicate")]
    assert once[0].get_json()["message_id"] == once[1].get_json()["message_id"]
    started = start(client, conversation_id="c", messages=[system, {"role": "user", "content": "Hi"}, system])
    assert receipts(started) == ["duplicate", "created", "duplicate"]
    again = start(client, conversation_id="c", messages=[system, {"role": "user", "content": "Hi"}])
    assert receipts(again) == ["duplicate", "duplicate"]
    assert shown(client, "c", "role", "content") == [("system", "Be kind"), ("user", "Hi")]


def test_a_message_that_is_in_a_list_twice_is_stored_once(client: FlaskClient) -> None:
    asked, answered = {"role": "user", "content": "Hi", "id": "u"}, {"role": "assistant", "content": "Ho", "id": "a"}
    started = start(client, conversation_id="c", messages=[asked, asked, answered, answered, asked])
    assert receipts(started) == ["created", "duplicate", "filled", "duplicate", "duplicate"]
    assert [each["message_id"] for each in started.get_json()["messages"]] == ["u", "u", "a", "a", "u"]
    assert shown(client, "c", "message_id", "content") == [("u", "Hi"), ("a", "Ho")]


def test_a_part_of_a_message_says_nothing_by_itself(client: FlaskClient) -> None:
    for part in ({"type": "reasoning", "id": "rs_1", "summary": []}, {"type": "item_reference", "id": "msg_1"}):
        refused = client.post("/conversation/c/message", json=part)
        assert (refused.status_code, paths(refused)) == (422, ["$"])
        assert receipts(start(client, conversation_id="c", messages=["Hi", part]))[1] == "duplicate"


def test_roles_have_many_names(client: FlaskClient) -> None:
    said = [{"role": "human", "content": "hello"}, {"role": "ai", "content": "hi"},
            {"role": "Human", "content": "x"}, {"role": "Assistant", "content": "y"}]  # fmt: skip
    start(client, conversation_id="c", messages=said)
    assert [(row["prompt"], row["response"]) for row in transcript(client, "c")] == [("hello", "hi"), ("x", "y")]
    for name, each in enumerate(said):
        client.post("/conversation/d/message", json=each | {"id": name})
    assert [(row["prompt"], row["response"]) for row in transcript(client, "d")] == [("hello", "hi"), ("x", "y")]


def test_an_answer_without_reply_to_answers_the_last_question(client: FlaskClient) -> None:
    said = [say(client, "c", "user", "m0"), say(client, "c", "assistant", "m1"), say(client, "c", "assistant", "m1")]
    assert [each.get_json()["receipt"] for each in said] == ["created", "filled", "duplicate"]
    (row,) = transcript(client, "c")
    assert (row["prompt"], row["response"], row["status"]) == ("m0", "m1", "completed")


def test_such_an_answer_counts_once_and_has_a_latency(client: FlaskClient) -> None:
    say(client, "c", "user", "m0", created_at="2026-11-21T06:30:00Z")
    say(client, "c", "assistant", "m1", created_at="2026-11-21T06:30:02.5Z")
    span = {"from": "2026-11-21T00:00:00Z", "to": "2026-11-22T00:00:00Z"}
    total = client.get("/v1/overview", query_string=span).get_json()["total"]
    assert (total["interactions"], total["completed"], total["pending"]) == (1, 1, 0)
    assert total["latency_ms"]["p50"] == 2500


def test_messages_of_one_time_keep_the_order_of_their_list(client: FlaskClient) -> None:
    said = [
        {"role": "assistant" if n % 2 else "user", "content": f"m{n}", "messageId": f"k{n}", "createdAt": AT}
        for n in range(10)
    ]
    start(client, conversationId="c", messages=said)
    rows = {row["prompt"]: row["created_at"] for row in transcript(client, "c")}
    assert sorted(rows, key=lambda prompt: rows[prompt]) == ["m0", "m2", "m4", "m6", "m8"]


def test_an_answer_is_saved_as_it_grows(client: FlaskClient) -> None:
    say(client, "c", "user", "Tell me a tale", message_id="u")
    pieces = [("Once", "pending"), ("Once upon", "pending"), ("Once upon a time", None)]
    for content, status in pieces:
        more = {"status": status} if status else {}
        told = say(client, "c", "assistant", content, message_id="r", **more)
        assert (told.status_code, told.get_json()["receipt"]) == (200, "filled")
        (row,) = transcript(client, "c")
        assert (row["response"], row["status"]) == (content, status or "completed")


def test_an_answer_that_came_whole_while_it_grew_is_complete_at_last(client: FlaskClient) -> None:
    say(client, "c", "user", "Hi")
    for status in ("pending", "completed"):
        say(client, "c", "assistant", "Hello", status=status)
        (row,) = transcript(client, "c")
        assert (row["response"], row["status"]) == ("Hello", status)


def test_an_answer_that_failed_is_tried_again(client: FlaskClient) -> None:
    say(client, "c", "user", "Hi", message_id="u")
    say(client, "c", "assistant", "", message_id="r", error="429")
    (row,) = transcript(client, "c")
    assert (row["response"], row["status"], row["error"]) == (None, "failed", "429")
    told = say(client, "c", "assistant", "Hello", message_id="r")
    assert (told.status_code, told.get_json()["receipt"]) == (200, "filled")
    (row,) = transcript(client, "c")
    assert (row["response"], row["status"]) == ("Hello", "completed")
