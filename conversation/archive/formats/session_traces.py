"""Hugging Face's Session Trace Simple Format (STS), which its trace viewer shows: one session per file.

The first line names the session, each line after it is a message of the current branch, each once:
https://huggingface.co/docs/hub/session-traces-format. Messages have a text only: in place of an image or a file stands
its kind, in brackets.
"""

from collections.abc import Iterator
from datetime import datetime

from pydantic_core import to_json

from conversation.archive.branches import SessionTree
from conversation.archive.exchanges import REASONING, ExchangeReader
from conversation.archive.exporting import ExportItem
from conversation.archive.formats import chat_messages
from conversation.turns.message import Item, Message
from conversation.turns.parts import texts_of
from conversation.turns.roles import ASSISTANT, SYSTEM, TOOL, USER
from logging_store import operations as ops

HARNESS = "turnlog"  # the program that wrote a trace, by which the viewer chooses an icon


def write(exported: Iterator[ExportItem]) -> Iterator[bytes]:
    """Yield the lines of sessions, one after another."""
    for each in exported:
        if each.session is None:
            continue
        name = each.session["title"] or each.session["key"]
        header = {"type": "session", "harness": HARNESS, "id": each.session["session_id"]}
        yield to_json(header | ({"name": name} if name else {})) + b"\n"
        with SessionTree(each.interactions) as tree:
            for turn in ExchangeReader(_message, "as logged").read(tree.rows(tree.current())):
                for item, message, (number, is_response) in zip(turn.items, turn.messages, turn.origins, strict=True):
                    more = _facts(message, turn.rows[number], is_response=is_response)
                    yield to_json({"type": "message", "message": item | more}) + b"\n"


def _message(message: Message) -> Item:
    role = message.role if message.role in {USER, ASSISTANT, SYSTEM, TOOL} else USER
    item: Item = {"role": role, "content": _text(message)}
    content = message.content if isinstance(message.content, list) else []
    if reasoning := texts_of(content, "reasoning").strip():
        item["reasoningContent"] = reasoning
    calls = [
        {"id": call.get("id"), "function": {"name": function.get("name"), "arguments": function.get("arguments")}}
        for call in message.tool_calls
        if isinstance(function := call.get("function"), dict)
    ]
    if calls:
        item["toolCalls"] = calls
    if role == TOOL and message.tool_call_id is not None:
        item["toolCallId"] = message.tool_call_id
    return item


def _text(message: Message) -> str:
    if not isinstance(message.content, list):
        return message.content if isinstance(message.content, str) else ""
    texts = []
    for part in message.content:
        match part:
            case {"type": "text", "text": str(said)} | {"type": "refusal", "refusal": str(said)}:
                texts.append(said)
            case {"type": str(kind)} if kind in REASONING:
                continue
            case _:
                texts.append("[image]" if chat_messages.image_url(part) else f"[{part.get('type') or 'file'}]")
    return "\n".join(texts)


def _facts(message: Message, row: ops.Interaction, *, is_response: bool) -> Item:
    at = message.created_at or _time(row["completed_at"] if is_response else row["started_at"] or row["created_at"])
    facts: Item = {} if at is None else {"timestamp": int(at.timestamp() * 1000)}
    if is_response and message.role == ASSISTANT and row["model"]:
        facts["model"] = row["model"]
    return facts


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
