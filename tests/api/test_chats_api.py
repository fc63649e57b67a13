"""Conversations with messages: the spellings, and how messages and interactions become each other."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from conversation.api.legacy.messages import Message, assign_interactions
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
    assert receipts(started) == ["created", "created", "created", "created", "filled", "created", "created"]
    assert shown(client, "c", "role", "content") == said
    assert [(row["key"], row["prompt"], row["response"], row["status"]) for row in transcript(client, "c")] == [
        ("start-0", [{"role": "system", "content": "Be kind"}], None, "completed"),
        ("start-1", None, "Welcome", "completed"),
        ("start-2", "One", None, "pending"),
        ("start-3", "Two", "2", "completed"),
        ("start-5", [{"role": "tool", "content": "result"}], None, "completed"),
        ("start-6", None, "done", "completed"),
    ]
    assert shown(client, "c", "reply_to")[4] == ("start-3",)


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


def test_other_messages_are_told_one_by_one(client: FlaskClient) -> None:
    start(client, conversation_id="c", messages=[{"role": "user", "content": "One"}])
    other = [{"role": "user", "content": "Another"}, {"role": "assistant", "content": "1"},
             {"role": "user", "content": "Two"}]  # fmt: skip
    told = start(client, conversation_id="c", messages=other)
    assert (told.status_code, receipts(told)) == (409, ["conflict", "conflict", "created"])
    # the answer to another question doesn't become the answer to the one that is stored
    assert paths(told) == ["$.messages[0].content", "$.messages[1].reply_to"]
    assert shown(client, "c", "role", "content") == [("user", "One"), ("user", "Two")]
    assert "messages[0].content" in problem(told)["detail"]


def test_a_contradiction_is_named_in_the_words_of_the_message(client: FlaskClient) -> None:
    say(client, "c", "user", "Hi", message_id="u", created_at=AT, reply_to="x")
    say(client, "c", "assistant", "Hello", message_id="a", reply_to="u", created_at=AT)
    told = {
        "content": say(client, "c", "user", "Ho", message_id="u"),
        "timestamp": say(client, "c", "user", "Hi", message_id="u", timestamp=LATER),
        "replyTo": say(client, "c", "user", "Hi", message_id="u", replyTo="y"),
        "messageId": say(client, "c", "assistant", "Hello", messageId="b", reply_to="u"),
        "createdAt": say(client, "c", "assistant", "Hello", replyTo="u", createdAt=LATER),
    }
    for name, answer in told.items():
        assert (answer.status_code, paths(answer)) == (409, [f"$.{name}"])
    second = say(client, "c", "assistant", "Good day", reply_to="u")
    assert (second.status_code, paths(second), problem(second)["session_id"]) == (
        409,
        ["$.content"],
        client.get(in_path("c")).get_json()["session_id"],
    )


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


def test_many_answers_do_not_multiply_their_question() -> None:
    question = Message.model_validate({"role": "user", "content": "a long one", "message_id": "u"})
    answer = Message.model_validate({"role": "assistant", "content": "Hello", "reply_to": "u"})
    placed = assign_interactions([question, *[answer] * 99], str)
    assert [each.record("c").prompt for each in placed] == ["a long one"] * 2 + [None] * 98
