"""Messages as OpenAI's chat API takes them, in whatever shape they were logged.

The fields are those that the API documents for a role, and no others: role, content, name, tool_calls, tool_call_id,
refusal. Images of all providers are `image_url` parts. The model's reasoning has no field there and is left out.
"""

import re
from collections.abc import Iterable
from typing import Any

from pydantic_core import from_json

from conversation.archive.exchanges import REASONING, NotExpressibleError
from conversation.turns.message import Content, Item, Message
from conversation.turns.roles import ASSISTANT, SYSTEM, TOOL, USER

_NAME = re.compile(r"[^\s<|\\/>]{1,64}")
_DETAILS = frozenset({"low", "high", "auto"})


def to_openai(message: Message) -> Item:
    """Return a message in OpenAI's form. Raises `NotExpressibleError`."""
    if message.role not in {USER, ASSISTANT, SYSTEM, TOOL}:
        raise NotExpressibleError(message.role)
    content, refusal = _content(message.content, message.role)
    sent: Item = {"role": message.role, "content": content}
    if message.role == TOOL:
        return sent | {"content": content or "", "tool_call_id": message.tool_call_id}
    if message.name and _NAME.fullmatch(message.name):
        sent["name"] = message.name
    if message.role != ASSISTANT:
        return sent | {"content": content or ""}
    refusal = refusal or message.extras.get("refusal")
    if isinstance(refusal, str):
        sent["refusal"] = refusal
    if message.tool_calls:
        sent["tool_calls"] = [_call(call) for call in message.tool_calls]
    return sent


def with_parsed_arguments(message: Item) -> Item:
    """Return a message in OpenAI's form with the arguments of its calls as objects, as trl has them."""
    if "tool_calls" not in message:
        return message
    calls = [
        call | {"function": call["function"] | {"arguments": _parsed(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return message | {"tool_calls": calls}


def tools_of(*metadata: Item) -> list[Item]:
    """Return the definitions of tools that the first of several metadata has, in OpenAI's form."""
    for each in metadata:
        if isinstance(given := each.get("tools"), list) and (tools := list(_tools(given))):
            return tools
    return []


def _content(content: Content | None, role: str) -> tuple[str | list[Item] | None, str | None]:
    """Return content and refusal. Only a user sends images."""
    if content is None or isinstance(content, str):
        return content, None
    if not isinstance(content, list):  # an item in no known shape
        raise NotExpressibleError("content")
    kept = [part for part in content if str(part.get("type")) not in REASONING]
    refusals = [part.get("refusal") for part in kept if part.get("type") == "refusal" and role == ASSISTANT]
    parts = [_part(part, role) for part in kept if not (part.get("type") == "refusal" and role == ASSISTANT)]
    refusal = refusals[-1] if refusals else None
    match parts:
        case []:
            return None, refusal
        case [{"type": "text", "text": str(text)}]:
            return text, refusal
    if role != USER:  # few models' templates read parts of anybody else
        return "\n".join(part["text"] for part in parts), refusal
    return parts, refusal


def _part(part: Item, role: str) -> Item:
    match part:
        case {"type": "text", "text": str(text)}:
            return {"type": "text", "text": text}
        case _ if role == USER and (url := image_url(part)):
            detail = part["image_url"].get("detail") if isinstance(part.get("image_url"), dict) else None
            known = {"detail": detail} if isinstance(detail, str) and detail in _DETAILS else {}
            return {"type": "image_url", "image_url": {"url": url} | known}
    raise NotExpressibleError(str(part.get("type")))


def image_url(part: Item) -> str | None:
    """Return the address of an image, which may be a data URI, from a part in any provider's form."""
    match part:
        case {"type": "image_url" | "input_image", "image_url": {"url": str(url)} | str(url)}:
            return url
        case {"type": "image", "source": {"type": "base64", "media_type": str(kind), "data": str(data)}}:
            return f"data:{kind};base64,{data}"
        case {"type": "image", "source": {"type": "url", "url": str(url)}}:
            return url
        case {"inlineData": {"mimeType": str(kind), "data": str(data)}} | {
            "inline_data": {"mime_type": str(kind), "data": str(data)}
        } if kind.startswith("image/"):
            return f"data:{kind};base64,{data}"
        case {"fileData": {"mimeType": str(kind), "fileUri": str(url)}} | {
            "file_data": {"mime_type": str(kind), "file_uri": str(url)}
        } if kind.startswith("image/"):
            return url
        case {"type": "file", "mediaType": str(kind), "url": str(url)} | {
            "type": "file",
            "mediaType": str(kind),
            "data": str(url),
        } if kind.startswith("image/"):
            return _as_uri(url, kind)
        case {"type": "image", "image": str(url), **more}:
            named = more.get("mediaType") or more.get("mimeType")
            return _as_uri(url, named if isinstance(named, str) else "image/png")
    return None


def _as_uri(data: str, kind: str) -> str:
    return data if data.startswith(("data:", "http://", "https://")) else f"data:{kind};base64,{data}"


def _call(call: Item) -> Item:
    match call:
        case {"id": str(call_id), "function": {"name": str(name), "arguments": str(arguments)}}:
            return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    raise NotExpressibleError("tool call")


def _parsed(arguments: str) -> Any:
    try:
        return from_json(arguments)
    except ValueError:
        return arguments


def _tools(given: Iterable[Any]) -> Iterable[Item]:
    for tool in given:
        match tool:
            case {"type": "function", "function": {"name": str(), **_more}}:
                yield {"type": "function", "function": tool["function"]}
            case {"name": str(name)}:
                # of the Responses API, and Anthropic's
                parameters = tool.get("parameters") or tool.get("input_schema") or tool.get("inputSchema")
                fields = {"name": name, "description": tool.get("description"), "parameters": parameters}
                yield {"type": "function", "function": {key: value for key, value in fields.items() if value}}
