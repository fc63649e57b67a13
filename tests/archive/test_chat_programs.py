"""What chat programs and gateways write is read as they mean it: who spoke, to whom, when, and at what cost."""

import json
from pathlib import Path
from typing import Any

import pytest

from logging_store.repository import ConversationRepository
from tests.archive.conftest import Flask, counted, stored_rows, write
from tests.archive.test_import import rows
from tests.conftest import Backend

Json = dict[str, Any]


def transcript(repository: ConversationRepository, name: str) -> list[Json]:
    return [{**each} for each in repository.transcript(name, {"limit": 99})["interactions"]]


def spoken(repository: ConversationRepository, name: str) -> list[tuple[Any, Any]]:
    return [(each["prompt"], each["response"]) for each in transcript(repository, name)]


def take(flask: Flask, file: Path, format_: str, interactions: int, *more: str) -> str:
    """Import a file twice; the second time everything is a duplicate."""
    for count in ([interactions, 0, 0, 0, 0], [0, 0, interactions, 0, 0]):
        result = flask("import", file, "--format", format_, *more)
        assert (result.exit_code, counted(result)["interactions"]) == (0, count), result.output
    return result.stdout


@pytest.mark.parametrize(
    "name", ["chatId", "conversationId", "conversation_id", "threadId", "SessionId", "chat", "thread_id"]
)
def test_messages_are_gathered_by_whatever_names_their_conversation(
    flask: Flask, repository: ConversationRepository, backend: Backend, tmp_path: Path, name: str
) -> None:
    said = [("user", "Hi", 0), ("assistant", "Hello", 2), ("user", "Bye", 9)]
    lines = [
        {"id": f"m-{n}", name: "chat-A1", "role": role, "content": text, "createdAt": f"2026-03-01T10:00:{at:02d}.000Z"}
        for n, (role, text, at) in enumerate(said, start=1)
    ]
    take(flask, write(tmp_path / "rows.jsonl", lines), "mongoexport", 2)
    assert stored_rows(backend) == (1, 2)
    first, second = transcript(repository, "chat-A1")
    assert [(each["key"], each["prompt"], each["response"]) for each in (first, second)] == [
        ("m-1", "Hi", "Hello"), ("m-3", "Bye", None)
    ]  # fmt: skip
    assert (first["started_at"], first["completed_at"]) == ("2026-03-01T10:00:00+00:00", "2026-03-01T10:00:02+00:00")


def test_messages_of_no_conversation_are_rejected(flask: Flask, backend: Backend, tmp_path: Path) -> None:
    lines = [{"_id": str(n), "roomNo": "r1", "role": "user", "content": "Hi"} for n in range(3)]
    file = write(tmp_path / "rows.jsonl", lines)
    result = flask("import", file, "--format", "mongoexport")
    assert (result.exit_code, stored_rows(backend)) == (1, (0, 0))
    assert [each["reason"] for each in rows(tmp_path / "rows.jsonl.rejects.jsonl")] == [
        "Names no conversation: none of sessionId, conversationId, chatId, threadId …"
    ] * 3


@pytest.mark.parametrize("unit", [1, 1000])
def test_unix_times_order_messages(flask: Flask, repository: ConversationRepository, tmp_path: Path, unit: int) -> None:
    said = [
        ("t3", "user", "third", 1772359220),
        ("t1", "user", "first", 1772359200),
        ("t2", "bot", "second", 1772359210),
    ]
    lines = [
        {"_id": name, "sessionId": "mt-1", "role": role, "content": text, "timestamp": at * unit}
        for name, role, text, at in said
    ]
    take(flask, write(tmp_path / "rows.jsonl", lines), "mongoexport", 2)
    assert [(each["prompt"], each["response"], each["started_at"]) for each in transcript(repository, "mt-1")] == [
        ("first", "second", "2026-03-01T10:00:00+00:00"),
        ("third", None, "2026-03-01T10:00:20+00:00"),
    ]


def librechat(name: str, parent: str | None, text: str, second: int, *, user: bool = False, **more: Any) -> Json:
    at = {"$date": f"2026-02-01T09:00:{second:02d}.000Z"}
    return {
        "_id": {"$oid": f"65a{second:021d}"}, "messageId": name, "conversationId": "lc-1",
        "parentMessageId": parent or "00000000-0000-0000-0000-000000000000", "text": text,
        "sender": "User" if user else "Small One", "isCreatedByUser": user, "model": None if user else "small-1",
        "tokenCount": 3, "unfinished": False, "error": False, "user": "u-77", "createdAt": at, "updatedAt": at, **more,
    }  # fmt: skip


def test_messages_of_librechat_keep_roles_models_and_alternatives(
    flask: Flask, repository: ConversationRepository, tmp_path: Path
) -> None:
    parts = [{"type": "text", "text": {"value": "It smells good."}}]
    lines = [
        librechat("m1", None, "Name a tree", 0, user=True),
        librechat("m2", "m1", "Oak.", 1),
        librechat("m3", "m1", "Lime.", 5),
        librechat("m4", "m3", "Why?", 9, user=True),
        librechat("m5", "m4", "", 10, content=parts),
        librechat("m6", "m3", "And a flower?", 20, user=True),
        librechat("m7", "m6", "The provider is down", 21, error=True),
        librechat("m8", None, "Name a bird", 30, user=True),
        librechat("m9", "m8", "A st", 31, unfinished=True),
    ]
    take(flask, write(tmp_path / "messages.jsonl", lines), "mongoexport", 5)
    session = repository.session("lc-1")
    assert (session["user_id"], session["earliest_turn_at"]) == ("u-77", "2026-02-01T09:00:00+00:00")
    found = {each["key"]: each for each in transcript(repository, "lc-1")}
    ids = {each["interaction_id"]: key for key, each in found.items()}
    links = {key: (ids.get(each["reply_to"]), ids.get(each["alternative_to"])) for key, each in found.items()}
    assert [(key, each["prompt"], each["response"], each["model"]) for key, each in found.items()] == [
        ("m1", "Name a tree", "Oak.", "small-1"),
        ("m3", None, "Lime.", "small-1"),
        ("m4", "Why?", "It smells good.", "small-1"),
        ("m6", "And a flower?", "The provider is down", "small-1"),
        ("m8", "Name a bird", "A st", "small-1"),
    ]
    # another answer, two questions after it, and another first question
    assert links == {
        "m1": (None, None), "m3": (None, "m1"), "m4": ("m3", None), "m6": ("m3", None), "m8": (None, "m1")
    }  # fmt: skip
    assert (found["m6"]["status"], found["m6"]["error"]) == ("failed", "The provider is down")
    assert found["m8"]["status"] == "abandoned"
    assert found["m1"]["started_at"] == "2026-02-01T09:00:00+00:00"
    assert found["m1"]["metadata"]["response"]["sender"] == "Small One"


def test_histories_of_langchain_are_conversations(
    flask: Flask, repository: ConversationRepository, tmp_path: Path
) -> None:
    said = [("human", "Hi"), ("ai", "Hello")]
    lines = [
        {"_id": {"$oid": f"65b{n:021d}"}, "SessionId": "lg-1", "History": json.dumps(
            {"type": kind, "data": {"content": text, "additional_kwargs": {}, "type": kind}})}
        for n, (kind, text) in enumerate(said)
    ]  # fmt: skip
    take(flask, write(tmp_path / "history.jsonl", lines), "mongoexport", 1)
    assert spoken(repository, "lg-1") == [("Hi", "Hello")]


def test_the_log_of_a_gateway_is_an_interaction_with_its_facts(
    flask: Flask, repository: ConversationRepository, tmp_path: Path
) -> None:
    def line(number: int, messages: list[Json], answer: str, **more: Any) -> Json:
        return {
            "id": f"chatcmpl-{number}", "trace_id": f"tr-{number}", "call_type": "acompletion",
            "model": "openrouter/maker/small-1", "messages": messages,
            "response": {
                "id": f"chatcmpl-{number}",
                "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 2},
            },
            "response_cost": 1.23e-05, "prompt_tokens": 3, "completion_tokens": 2,
            "startTime": 1772359200.5 + 60 * number, "endTime": 1772359201.25 + 60 * number,
            "status": "success", "end_user": "u-1", "metadata": {"session_id": "s-1"}, **more,
        }  # fmt: skip

    hi, hello = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
    failed = {"response": {}, "status": "failure", "error_str": "rate limit"}
    bye = {"role": "user", "content": "Bye"}
    lines = [
        line(0, [hi], "Hello"),
        line(1, [hi, hello, bye], "See you"),
        line(2, [{**bye, "content": "?"}], "", **failed),
    ]
    for count in ([3, 1, 0, 0, 0], [0, 0, 4, 0, 0]):
        result = flask("import", write(tmp_path / "log.jsonl", lines), "--format", "openai-chat")
        assert (result.exit_code, counted(result)["interactions"]) == (0, count), result.output
    session = repository.session("s-1")
    assert (session["user_id"], session["interaction_count"]) == ("u-1", 3)
    first, second, third = transcript(repository, "s-1")
    assert (first["prompt"], first["response"], first["status"], first["model"], first["finish_reason"]) == (
        "Hi", "Hello", "completed", "openrouter/maker/small-1", "stop"
    )  # fmt: skip
    assert (first["input_tokens"], first["output_tokens"], float(first["cost_usd"])) == (3, 2, 1.23e-05)
    assert (first["started_at"], first["completed_at"]) == (
        "2026-03-01T10:00:00.5+00:00", "2026-03-01T10:00:01.25+00:00"
    )  # fmt: skip
    assert (first["metadata"]["trace_id"], second["metadata"]["trace_id"]) == ("tr-0", "tr-1")
    assert (second["prompt"], second["response"]) == ("Bye", "See you")
    assert (third["prompt"], third["response"], third["status"], third["error"]) == ("?", None, "failed", "rate limit")


def test_files_of_the_batch_api_go_together(flask: Flask, repository: ConversationRepository, tmp_path: Path) -> None:
    completion = {
        "id": "chatcmpl-b1", "object": "chat.completion", "created": 1772359200, "model": "small-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }  # fmt: skip
    error = {"error": {"message": "Too long", "type": "invalid_request_error"}}
    came: list[Json] = [
        {"id": "batch_req_1", "custom_id": "row-1", "error": None,
         "response": {"status_code": 200, "request_id": "r1", "body": completion}},
        {"id": "batch_req_2", "custom_id": "row-2", "error": None,
         "response": {"status_code": 400, "request_id": "r2", "body": error}},
        {"id": "batch_req_3", "custom_id": "row-3", "response": None,
         "error": {"code": "batch_expired", "message": "Expired"}},
    ]  # fmt: skip
    take(flask, write(tmp_path / "output.jsonl", came), "openai-chat", 3)
    (answered,), (refused,), (expired,) = (transcript(repository, f"row-{n}") for n in (1, 2, 3))
    assert (answered["key"], answered["prompt"], answered["response"], answered["status"]) == (
        "row-1", None, "Hello", "completed"
    )  # fmt: skip
    assert (answered["model"], answered["input_tokens"], answered["output_tokens"], answered["started_at"]) == (
        "small-1", 3, 2, "2026-03-01T10:00:00+00:00"
    )  # fmt: skip
    assert (refused["status"], refused["error"]) == ("failed", "Too long")
    assert (expired["status"], expired["error"]) == ("failed", "Expired")
    sent = [
        {"custom_id": f"row-{n}", "method": "POST", "url": "/v1/chat/completions",
         "body": {"model": "small-1", "messages": [{"role": "user", "content": f"Hi {n}"}]}}
        for n in (1, 2)
    ]  # fmt: skip
    result = flask("import", write(tmp_path / "input.jsonl", sent), "--format", "openai-chat")
    assert (result.exit_code, counted(result)["interactions"]) == (0, [0, 2, 0, 0, 0]), result.output
    assert spoken(repository, "row-1") == [("Hi 1", "Hello")]


def chatgpt(name: str, parent: str | None, role: str, text: Any, at: float | None, **more: Any) -> Json:
    content = text if isinstance(text, dict) else {"content_type": "text", "parts": [text]}
    message = {
        "id": name, "author": {"role": role, "name": None, "metadata": {}}, "create_time": at, "update_time": None,
        "content": content, "status": "finished_successfully", "end_turn": True, "weight": 1.0, "metadata": {},
        "recipient": "all", **more,
    }  # fmt: skip
    return {"id": name, "message": message, "parent": parent, "children": []}


def conversation(name: str, *nodes: Json, **more: Any) -> Json:
    root: Json = {"id": "root", "message": None, "parent": None, "children": []}
    mapping = {node["id"]: node for node in (root, *nodes)}
    return {
        "title": None, "create_time": 1735689600.123456, "update_time": 1735689700.5, "conversation_id": name,
        "id": name, "default_model_slug": "small-2", "mapping": mapping, **more,
    }  # fmt: skip


def model(name: str) -> Json:
    return {"metadata": {"model_slug": name}}


def test_an_export_of_chatgpt_is_a_tree(
    flask: Flask, repository: ConversationRepository, backend: Backend, tmp_path: Path
) -> None:
    t = 1735689600.0
    exported = [
        conversation(
            "gp-1",
            chatgpt("s", "root", "system", "", None),
            chatgpt("u1", "s", "user", "Name a tree", t + 1.5),
            chatgpt("a1", "u1", "assistant", "Oak.", t + 3.25, **model("small-1")),
            chatgpt("a1b", "u1", "assistant", "Lime.", t + 10.75, **model("small-2")),
            chatgpt("u2", "a1b", "user", "And a flower?", t + 20),
            chatgpt("a2b", "u2", "assistant", "Poppy.", t + 22, **model("small-2")),
            current_node="a2b",
        ),
        {"title": "A project folder", "create_time": t, "items": []},
    ]
    file = tmp_path / "conversations.json"
    file.write_text(json.dumps(exported), encoding="utf-8")
    assert "1 passed over, which are no conversations" in take(flask, file, "chatgpt", 3)
    assert stored_rows(backend) == (1, 3)
    session = repository.session("gp-1")
    assert (session["title"], session["started_at"]) == (None, "2025-01-01T00:00:00.123456+00:00")
    first, other, last = transcript(repository, "gp-1")
    assert [(each["key"], each["prompt"], each["response"], each["model"]) for each in (first, other, last)] == [
        ("u1", "Name a tree", "Oak.", "small-1"),
        ("a1b", None, "Lime.", "small-2"),
        ("u2", "And a flower?", "Poppy.", "small-2"),
    ]
    assert (other["alternative_to"], last["reply_to"]) == (first["interaction_id"], other["interaction_id"])
    assert (first["started_at"], first["completed_at"]) == (
        "2025-01-01T00:00:01.5+00:00", "2025-01-01T00:00:03.25+00:00"
    )  # fmt: skip
    # exported again after it went on, with a title
    exported[0]["mapping"]["u3"] = chatgpt("u3", "a2b", "user", "Thanks", t + 30)
    exported[0] |= {"title": "Trees", "update_time": t + 31, "current_node": "u3"}
    file.write_text(json.dumps(exported), encoding="utf-8")
    result = flask("import", file, "--format", "chatgpt")
    assert (result.exit_code, counted(result)["interactions"]) == (0, [1, 0, 3, 0, 0]), result.output
    (line,) = flask("export", "--format", "openai-chat", "--session", "gp-1").stdout.splitlines()[-1:]
    assert [each["content"] for each in json.loads(line)["messages"]] == [
        "Name a tree", "Lime.", "And a flower?", "Poppy."
    ]  # fmt: skip


def test_the_answer_that_chatgpt_showed_last_is_the_current_one(
    flask: Flask, repository: ConversationRepository, tmp_path: Path
) -> None:
    t = 1735689600.0
    exported = conversation(
        "gp-3",
        chatgpt("u1", "root", "user", "Name a tree", t),
        chatgpt("a1", "u1", "assistant", "Oak.", t + 1),
        chatgpt("a2", "u1", "assistant", "Lime.", t + 2),
        current_node="a1",
    )
    file = tmp_path / "conversations.json"
    for left_at, update, shown in (("a1", 10, "Oak."), ("a1", 20, "Oak."), ("a2", 30, "Lime."), ("a1", 9, "Lime.")):
        exported |= {"current_node": left_at, "update_time": t + update}
        file.write_text(json.dumps(exported), encoding="utf-8")
        assert flask("import", file, "--format", "chatgpt").exit_code == 0
        (current,) = repository.branch("gp-3", {"limit": 9})["interactions"]
        assert current["response"] == shown
    exported["mapping"]["u2"] = chatgpt("u2", "a2", "user", "Why?", t + 40)
    file.write_text(json.dumps(exported | {"current_node": "u2", "update_time": t + 41}), encoding="utf-8")
    assert flask("import", file, "--format", "chatgpt").exit_code == 0
    assert [each["response"] for each in repository.branch("gp-3", {"limit": 9})["interactions"]] == ["Lime.", None]


def test_what_chatgpt_did_on_the_way_to_an_answer_is_kept(
    flask: Flask, repository: ConversationRepository, tmp_path: Path
) -> None:
    t = 1735689600.0
    thoughts = {"content_type": "thoughts", "thoughts": [{"summary": "Adding", "content": "1 + 1"}]}
    code = {"content_type": "code", "language": "python", "text": "1 + 1"}
    picture = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-1"}
    hidden = {"metadata": {"is_visually_hidden_from_conversation": True}}
    exported = [
        conversation(
            "gp-2",
            chatgpt(
                "c", "root", "user", {"content_type": "user_editable_context", "user_profile": "Ada"}, None, **hidden
            ),
            chatgpt("u1", "c", "user", {"content_type": "multimodal_text", "parts": ["What is it?", picture]}, t + 1),
            chatgpt("t1", "u1", "assistant", thoughts, t + 2),
            chatgpt("a1", "t1", "assistant", code, t + 3, recipient="python", **model("small-1")),
            chatgpt("r1", "a1", "tool", {"content_type": "execution_output", "text": "2"}, t + 4),
            chatgpt("k1", "r1", "assistant", {"content_type": "reasoning_recap", "content": "Thought for 2s"}, t + 5),
            chatgpt("a2", "k1", "assistant", "It is 2.", t + 6, **model("small-1")),
            chatgpt("u1b", "c", "user", "And this?", t + 9),
            chatgpt("a3", "u1b", "assistant", "It st", t + 10, metadata={"finish_details": {"type": "interrupted"}}),
        ),
        {"id": "empty", "title": "Nothing", "mapping": {}},
    ]
    file = tmp_path / "conversations.json"
    file.write_text(json.dumps(exported), encoding="utf-8")
    take(flask, file, "chatgpt", 3)
    call, answer, edited = transcript(repository, "gp-2")
    assert call["prompt"] == [
        {"role": "user", "content": [
            {"type": "text", "text": "What is it?"},
            {"type": "image_asset_pointer", "asset_pointer": "file-service://file-1"}]}
    ]  # fmt: skip
    ((called,),) = [each["tool_calls"] for each in call["response"]]
    assert called["function"] == {"name": "python", "arguments": "1 + 1"}
    assert call["response"][0]["content"] == [{"type": "reasoning", "text": "Adding\n1 + 1"}]
    assert answer["prompt"] == [{"role": "tool", "content": "2", "tool_call_id": called["id"]}]
    assert (answer["response"], answer["model"]) == ("It is 2.", "small-1")
    assert (edited["prompt"], edited["response"], edited["status"]) == ("And this?", "It st", "abandoned")
    assert edited["alternative_to"] == call["interaction_id"]
    assert repository.session("empty")["title"] == "Nothing"


def test_a_file_without_a_conversation_is_no_success(flask: Flask, tmp_path: Path) -> None:
    file = write(tmp_path / "x.json", [{"title": "A project folder", "items": []}])
    assert flask("import", file, "--format", "chatgpt").exit_code == 1
    for format_, broken in (
        ("chatgpt", {"mapping": []}),
        ("chatgpt", {"mapping": {"a": 1}}),
        ("claude", {"name": "x"}),
    ):
        result = flask("import", write(tmp_path / "y.json", [broken]), "--format", format_)
        assert (result.exit_code, "1 more rejected" in result.stdout) == (1, True), result.output


def claude(name: str, sender: str, second: int, *content: Json, **more: Any) -> Json:
    texts = [part["text"] for part in content if "text" in part]
    return {
        "uuid": f"7d4f0c1e-0000-4000-8000-00000000000{name}", "text": "".join(texts), "content": list(content),
        "sender": sender, "created_at": f"2026-02-01T09:00:{second:02d}.000000Z", "attachments": [], "files": [],
        **more,
    }  # fmt: skip


def test_an_export_of_claude_has_attachments_and_thoughts(
    flask: Flask, repository: ConversationRepository, tmp_path: Path
) -> None:
    pasted = {"file_name": "paste.txt", "file_type": "txt", "file_size": 17, "extracted_content": "line one\nline two"}
    text: Json = {"type": "text", "text": "Two lines.", "start_timestamp": None, "citations": []}
    session_id = "7d4f0c1e-0000-4000-8000-0000000000c1"
    exported = [
        {
            "uuid": session_id, "name": "Plans", "created_at": "2026-02-01T09:00:00.000000Z",
            "updated_at": "2026-02-01T09:05:00.000000Z", "account": {"uuid": "7d4f0c1e-0000-4000-8000-0000000000aa"},
            "chat_messages": [
                claude("1", "human", 1, attachments=[pasted]),
                claude("2", "assistant", 1, {"type": "thinking", "thinking": "count them"}, text),
                claude("3", "human", 2, {"type": "text", "text": "Thanks"}),
            ],
        }
    ]  # fmt: skip
    file = tmp_path / "conversations.json"
    file.write_text(json.dumps(exported), encoding="utf-8")
    take(flask, file, "claude", 2)
    session = repository.session(session_id)
    assert (session["title"], session["started_at"]) == ("Plans", "2026-02-01T09:00:00+00:00")
    first, second = transcript(repository, session_id)
    assert first["prompt"] == "line one\nline two"
    assert first["response"] == [
        {"role": "assistant", "content": [
            {"type": "reasoning", "text": "count them"}, {"type": "text", "text": "Two lines."}]}
    ]  # fmt: skip
    assert (second["prompt"], second["response"]) == ("Thanks", None)


def test_an_export_of_claude_with_branches_and_tools(
    flask: Flask, repository: ConversationRepository, tmp_path: Path
) -> None:
    def text(said: str) -> Json:
        return {"type": "text", "text": said}

    def after(name: str | None) -> Json:
        return {"parent_message_uuid": f"7d4f0c1e-0000-4000-8000-00000000000{name or '0'}" if name else _CLAUDE_ROOT}

    use = {"type": "tool_use", "id": "t1", "name": "search", "input": {"q": "oak"}}
    found = {
        "type": "tool_result",
        "tool_use_id": "t1",
        "name": "search",
        "content": [text("a tree")],
        "is_error": False,
    }
    exported = [
        {
            "uuid": "7d4f0c1e-0000-4000-8000-0000000000c2", "name": "", "created_at": "2026-02-01T09:00:00.000000Z",
            "chat_messages": [
                claude("1", "human", 1, text("What is an oak?"), **after(None)),
                claude("2", "assistant", 2, use, found, text("A tree."), **after("1")),
                claude("3", "assistant", 3, text("A big tree."), **after("1")),
                claude("4", "human", 4, text("And a lime?"), **after("3")),
                claude("5", "human", 5, text("What is a lime?"), **after(None)),
            ],
        }
    ]  # fmt: skip
    file = tmp_path / "conversations.json"
    file.write_text(json.dumps(exported), encoding="utf-8")
    take(flask, file, "claude", 5)
    call, answer, other, question, edited = transcript(repository, "7d4f0c1e-0000-4000-8000-0000000000c2")
    assert call["response"][0]["tool_calls"][0]["function"]["name"] == "search"
    assert (answer["prompt"][0]["role"], answer["response"]) == ("tool", "A tree.")
    assert (other["response"], other["alternative_to"]) == ("A big tree.", call["interaction_id"])
    assert (question["prompt"], question["reply_to"]) == ("And a lime?", other["interaction_id"])
    assert (edited["prompt"], edited["alternative_to"]) == ("What is a lime?", call["interaction_id"])


_CLAUDE_ROOT = "00000000-0000-4000-8000-000000000000"
