"""A log in which every text is an attacker's."""

import re
from typing import Any

import httpx

from conversation.keys.key_registry import KeyRegistry

_CONTROL = re.compile(r"[\x00-\x1f]")
_PICTURES = 0x2400  # of control characters, in Unicode
_KEY_PART, _KEY_PART_NAME = 100, 50


def name(payload: str) -> str:
    """Return a payload as names can be: with pictures of control characters."""
    return _CONTROL.sub(lambda found: chr(_PICTURES + ord(found[0])), payload)


def fill(client: httpx.Client, payloads: list[str]) -> None:
    """Log one folder, session, and three interactions for each payload, with it in all of their texts."""
    for payload in payloads:
        _post(client, "/v1/folders", _folder(payload))
        _post(client, "/v1/sessions", _session(payload))
    _post(client, "/v1/interactions/batch", {"interactions": [row for each in payloads for row in _interactions(each)]})
    for payload in payloads:
        _post(client, "/v1/feedback", _feedback(payload))


def make_keys(registry: KeyRegistry, payloads: list[str]) -> None:
    """Make a key that is named so for each payload."""
    for payload in payloads:
        registry.create("default", "secret", {"log"}, name=name(payload))


def _folder(payload: str) -> dict[str, Any]:
    return {
        "folder_id": name(payload), "name": payload, "user_id": name(payload), "metadata": {payload: payload},
        "plan": {"sessions_per_week": 1, "total_weeks": 1},
    }  # fmt: skip


def _session(payload: str) -> dict[str, Any]:
    return {
        "session_id": name(payload), "title": payload, "user_id": name(payload), "tags": [name(payload), "x"],
        "metadata": {payload: payload, "deeper": [{payload: [payload]}]}, "folder_id": name(payload),
        "participants": [{"participant": name(payload), "role": name(payload), "state": "joined"}],
    }  # fmt: skip


def _interactions(payload: str) -> list[dict[str, Any]]:
    said = {
        "session_id": name(payload), "model": name(payload), "provider": name(payload), "error": payload,
        "finish_reason": name(payload), "participant": name(payload),
        "tags": [name(payload)], "metadata": {payload: payload}, "status": "failed",
    }  # fmt: skip
    key = {name(payload)[:_KEY_PART_NAME]: name(payload)[:_KEY_PART]}
    return [
        said | {"interaction_id": name(payload), "reply_to": name(payload), "prompt": payload, "response": payload},
        said | {"key": key, "reply_to": name(payload), "prompt": _messages(payload), "response": _messages(payload)},
        said | {"prompt": 30 * f"{payload}\n", "response": 30 * f"{payload}\n\n"},
    ]


def _feedback(payload: str) -> dict[str, Any]:
    return {
        "session_id": name(payload), "interaction_id": name(payload), "author": name(payload), "name": name(payload),
        "value": payload, "comment": payload,
    }  # fmt: skip


def _messages(payload: str) -> list[dict[str, Any]]:
    call = {"id": payload, "type": payload, "function": {"name": payload, "arguments": payload}}
    return [
        {"role": payload, "name": payload, "content": payload, payload: payload},
        {"role": "assistant", "name": payload, "content": payload, "tool_calls": [call, {"name": payload}, payload]},
        {"role": "tool", "tool_call_id": payload, "content": [{"type": "text", "text": payload}, payload]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": payload}}, {"type": payload}]},
        {"role": "user", "content": {payload: payload}},
    ]


def _post(client: httpx.Client, path: str, body: dict[str, Any]) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code in {200, 201}, f"{path} answered {answer.status_code}: {answer.text[:2000]}"
