"""Conversations in the format of OpenAI's chat API: fine-tuning data, and logs of chat completions.

Fine-tuning data is `{messages: [{role, content, …}], …}`. A log also has a completion's fields (`id`, `model`,
`created`, `choices`, `usage`), next to the request's messages or as `{request: {…}, response: {…}}`. The first choice
becomes the response of the last interaction, with that model, usage and finish reason. Other fields become metadata.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from conversation.archive.dialogues import Dialogue, Message, read_dialogues, without
from conversation.archive.entries import Document, Entry, InvalidDocumentError, RejectedEntry
from conversation.archive.session_keys import document_key

_TOKENS = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}


def read(documents: Iterable[Document | RejectedEntry]) -> Iterator[Entry]:
    return read_dialogues(documents, _dialogue)


def _dialogue(document: dict[str, Any]) -> Dialogue:
    rest = _flat(document)
    messages, choices = rest.pop("messages", []), rest.pop("choices", [])
    if not isinstance(messages, list) or not isinstance(choices, list) or not (messages or choices):
        raise InvalidDocumentError("Needs messages, a list with at least one message")
    name = document_key(rest | ({"messages": messages, "choices": choices} if rest.get("id") is None else {}))
    rest.pop("id", None)
    parsed = [_message(message, f"$.messages[{n}]") for n, message in enumerate(messages)]
    session: dict[str, Any] = {}
    last: dict[str, Any] = {"model": rest.pop("model", None)}
    if (created := _time(rest.get("created"))) is not None:
        session["started_at"] = last["started_at"] = created
        del rest["created"]
    if choices:
        answer, last["finish_reason"], aside = _choice(choices)
        parsed.append(answer)
        last["metadata"] = aside
    if isinstance(usage := rest.get("usage"), dict):
        last |= {ours: usage[theirs] for theirs, ours in _TOKENS.items() if theirs in usage}
        rest["usage"] = {key: value for key, value in usage.items() if key not in _TOKENS}
        if not rest["usage"]:
            del rest["usage"]
    return Dialogue(name, parsed, session | {"metadata": rest}, last)


def _flat(document: dict[str, Any]) -> dict[str, Any]:
    """Merge a log's request and response; the response's model is the one that answered."""
    match document:
        case {"request": {"messages": list()}, "response": {"choices": list()}}:
            both: dict[str, Any] = document["request"] | document["response"]
            return without(document, "request", "response") | both
    return dict(document)


def _message(message: Any, path: str) -> Message:
    match message:
        case {"role": str(role)}:
            return Message(role, message.get("content"), without(message, "role", "content"))
    raise InvalidDocumentError(f"{path}: A message needs a role, which is a text")


def _choice(choices: list[Any]) -> tuple[Message, str | None, dict[str, Any]]:
    match choices:
        case [{"message": message} as first, *others]:
            rest = without(first, "message", "finish_reason", "index")
            aside = {"choice": rest, "choices": others}
            extra = {key: value for key, value in aside.items() if value and value != {"logprobs": None}}
            return _message(message, "$.choices[0].message"), first.get("finish_reason"), extra
    raise InvalidDocumentError("$.choices[0]: A choice needs a message")


def _time(seconds: Any) -> str | None:
    if not isinstance(seconds, int | float) or not 0 < seconds < 1e11:  # noqa: PLR2004 - beyond, it isn't seconds
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat()
