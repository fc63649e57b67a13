"""What trainers accept, as OpenAI and Hugging Face publish it: a line that breaks a rule raises `AssertionError`.

- https://platform.openai.com/docs/api-reference/fine-tuning/chat-input and …/preference-input: the fields of a line and
  of a message by role; text and images only, images from users only; each call of a tool is followed by its result.
- https://huggingface.co/docs/trl/dataset_formats: the columns of a conversational preference data set.
- https://huggingface.co/docs/hub/session-traces-format: the lines of a session trace.
"""

import json
import re
from typing import Any

Json = dict[str, Any]

_FIELDS = {
    "system": {"role", "content", "name"},
    "user": {"role", "content", "name"},
    "assistant": {"role", "content", "name", "refusal", "tool_calls", "weight"},
    "tool": {"role", "content", "tool_call_id"},
}
_NAME = re.compile(r"[^\s<|\\/>]{1,64}")


def check_chat(line: Json) -> None:
    """Check a line for OpenAI's supervised fine-tuning."""
    assert line.keys() <= {"messages", "tools", "parallel_tool_calls"}
    check_messages(line["messages"])
    trained = [each for each in line["messages"] if each["role"] == "assistant" and each.get("weight", 1) == 1]
    assert trained, "no answer to train on"
    assert line["messages"][-1]["role"] == "assistant"
    _check_tools(line.get("tools", []))


def check_openai_preference(line: Json) -> None:
    """Check a line for OpenAI's preference tuning."""
    assert line.keys() == {"input", "preferred_output", "non_preferred_output"}
    assert line["input"].keys() <= {"messages", "tools", "parallel_tool_calls"}
    _check_tools(line["input"].get("tools", []))
    _check_pair(line["input"]["messages"], line["preferred_output"], line["non_preferred_output"])


def check_trl_preference(line: Json) -> None:
    """Check a line for trl's DPO trainer, whose arguments of calls are objects."""
    assert line.keys() <= {"prompt", "chosen", "rejected", "tools"}
    _check_tools(line.get("tools", []))

    def with_texts(messages: list[Json]) -> list[Json]:
        found = json.loads(json.dumps(messages))
        for call in (call for message in found for call in message.get("tool_calls", ())):
            assert isinstance(call["function"]["arguments"], dict)
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
        return list(found)

    _check_pair(*(with_texts(line[name]) for name in ("prompt", "chosen", "rejected")))


def check_trace(lines: list[Json]) -> None:
    """Check the lines of one session trace."""
    header, *rest = lines
    assert header["type"] == "session"
    assert all(isinstance(header[name], str) and header[name] for name in ("harness", "id"))
    assert isinstance(header.get("name", ""), str)
    for line in rest:
        assert line.keys() == {"type", "message"}
        assert line["type"] == "message"
        message = line["message"]
        assert message.keys() <= {
            "role", "content", "reasoningContent", "toolCalls", "toolCallId", "timestamp", "model"
        }  # fmt: skip
        assert message["role"] in {"user", "assistant", "system", "tool"}
        assert isinstance(message["content"], str)
        assert isinstance(message.get("timestamp", 0), int)
        assert isinstance(message.get("model", ""), str)
        for call in message.get("toolCalls", ()):
            assert call.keys() == {"id", "function"}
            assert isinstance(call["function"]["name"], str)
            assert isinstance(call["function"]["arguments"], str)
        assert "toolCalls" not in message or message["role"] == "assistant"
        assert "toolCallId" not in message or message["role"] == "tool"


def check_messages(messages: list[Json]) -> None:
    """Check the messages of one conversation."""
    assert messages
    awaited: set[str] = set()
    for message in messages:
        role = message["role"]
        assert message.keys() <= _FIELDS[role], message
        assert _NAME.fullmatch(message.get("name", "x"))
        if role == "tool":
            assert message["tool_call_id"] in awaited, "a result without its call"
            awaited.remove(message["tool_call_id"])
        else:
            assert not awaited, "a call without its result"
        _check_content(message)
        for call in message.get("tool_calls", ()):
            assert call.keys() == {"id", "type", "function"}
            assert call["function"].keys() == {"name", "arguments"}
            json.loads(call["function"]["arguments"])
            awaited.add(call["id"])
    assert not awaited, "a call without its result"


def _check_content(message: Json) -> None:
    content = message["content"]
    match message["role"]:
        case "user" if isinstance(content, list):
            assert content
            for part in content:
                match part:
                    case {"type": "text", "text": str()}:
                        assert len(part) == 2
                    case {"type": "image_url", "image_url": {"url": str(url)}}:
                        assert part["image_url"].keys() <= {"url", "detail"}
                        assert url.startswith(("https://", "http://", "data:image/"))
                    case _:
                        raise AssertionError(part)
        case "assistant":
            assert content or message.get("tool_calls") or message.get("refusal")
            assert content is None or isinstance(content, str)
            assert message.get("weight", 1) in {0, 1}
            assert message.get("tool_calls", True), "an empty list of calls"
        case _:
            assert isinstance(content, str)


def _check_tools(tools: list[Json]) -> None:
    for tool in tools:
        assert tool.keys() == {"type", "function"}
        assert tool["type"] == "function"
        assert _NAME.fullmatch(tool["function"]["name"])


def _check_pair(prompt: list[Json], better: list[Json], worse: list[Json]) -> None:
    assert prompt[-1]["role"] in {"user", "tool"}
    for answer in (better, worse):
        check_messages([*prompt, *answer])
        assert {message["role"] for message in answer} <= {"assistant", "tool"}
        assert answer[-1]["role"] == "assistant"
    assert better != worse
