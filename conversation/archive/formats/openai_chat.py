"""Conversations in the format of OpenAI's APIs: fine-tuning data, logs of calls, and files of the Batch API.

Fine-tuning data is `{messages: [{role, content, …}], …}`. A log of a call has what was sent and what came, one next to
the other or as `{request: {…}, response: {…}}`, of the chat API (`messages`, `choices`) or the Responses API (`input`,
`output`). The first choice becomes the response of the last interaction, with model, usage, cost, times and finish
reason, as OpenAI, LiteLLM and others name them. Other fields become the session's metadata.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from pydantic_core import to_json

from conversation.archive import field_names, session_keys
from conversation.archive.dialogues import Dialogue, merged, read_dialogues, read_messages, without
from conversation.archive.entries import HERE, Document, Entry, InvalidDocumentError, RejectedEntry, Target
from conversation.turns import facts, shapes
from conversation.turns.message import Message
from conversation.turns.roles import SYSTEM

_SENT = ("messages", "input")
_CAME = ("choices", "output")
_SESSION = ("session_id", "conversation_id", "chat_id", "thread_id", "litellm_session_id")
_FAILED = frozenset({"failure", "failed", "error"})
_HTTP_ERROR = 400

Json = dict[str, Any]


def read(documents: Iterable[Document | RejectedEntry], target: Target = HERE) -> Iterator[Entry]:
    return read_dialogues(documents, _dialogue, target)


def _dialogue(document: Json) -> Dialogue:
    rest = _flat(document)
    sent, came = _taken(rest, _SENT), _taken(rest, _CAME)
    error = _error(rest)
    if not isinstance(sent, list) or not isinstance(came, list) or not (sent or came or error):
        raise InvalidDocumentError("Needs messages, a list with at least one message")
    messages, rejected = read_messages(sent)
    if isinstance(instructions := rest.get("instructions"), str) and instructions:
        messages.insert(0, Message(SYSTEM, rest.pop("instructions"), place=-1))
    last: Json = field_names.take_call(rest) | ({"error": error, "status": "failed"} if error else {})
    if isinstance(usage := rest.pop("usage", None), dict):
        answer_facts: Json = {"usage": usage}
        said = facts.take(answer_facts)
        last |= {name: value for name, value in said.items() if name != "metadata"}
        last["metadata"] = said.get("metadata", {})
    if came:
        answer, more = _answer(came)
        messages.append(answer)
        last = more | last | {"metadata": more.get("metadata", {}) | last.get("metadata", {})}
    session = field_names.take_session(rest)
    is_call = bool(came or error)
    if is_call:
        session["started_at"] = last.get("started_at")
    else:  # times of the whole conversation
        session |= {"started_at": last.pop("started_at", None), "ended_at": last.pop("completed_at", None)}
    name, own, is_shared = _name(rest)
    if own is not None and messages:
        messages[-1] = replace(messages[-1], id=own)
    if is_call and is_shared:
        # other lines of the session say other things of their calls
        session = without(session, "started_at")
        last = merged({"metadata": rest}, last)
        return Dialogue(name, messages, session, last, last_id=own, counted=False, rejected=[*rejected.values()])
    session |= {"metadata": rest}
    return Dialogue(name, messages, session, last, last_id=own, rejected=[*rejected.values()])


def _flat(document: Json) -> Json:
    """Return what was sent and what came as one object; of fields that both have, those of what came count."""
    flat = dict(document)
    for name in ("request", "body", "response"):
        part = flat.get(name)
        if name == "response" and isinstance(part, dict) and isinstance(part.get("body"), dict):
            # a line of the Batch API; a failed call's body is an error
            flat = without(flat, "id", "response") | {"response": without(part, "body")} | part["body"]
        elif isinstance(part, dict) and any(each in part for each in (*_SENT, *_CAME)):
            flat = without(flat, name) | part
    return flat


def _taken(rest: Json, names: Sequence[str]) -> Any:
    present = next((name for name in names if name in rest), None)
    value = rest.pop(present) if present else []
    return [value] if isinstance(value, str) and present == "input" else value


def _error(rest: Json) -> str | None:
    """Remove and return the error of a failed call; None of one that succeeded."""
    answered = rest.get("response")
    status = answered.get("status_code") if isinstance(answered, dict) else None
    is_failed = isinstance(rest.get("status"), str) and rest["status"] in _FAILED
    failed = is_failed or (isinstance(status, int) and status >= _HTTP_ERROR)
    if is_failed or rest.get("status") in ("success", "completed"):
        del rest["status"]
    found = next((rest.pop(name) for name in ("error", "error_str") if rest.get(name)), None)
    rest.pop("error", None)
    match found:
        case {"message": str(message)}:
            return message
        case None:
            return "The call failed" if failed else None
    return found if isinstance(found, str) else to_json(found).decode()


def _answer(came: list[Any]) -> tuple[Message, Json]:
    """Return the first choice, or the output of the Responses API, and the fields that it states."""
    match came:
        case [{"message": message} as first, *others]:
            (answer, *_) = _read(message, "$.choices[0].message")
            rest = without(first, "message", "finish_reason", "index")
            aside = {"choice": rest, "choices": others}
            metadata = {key: value for key, value in aside.items() if value and value != {"logprobs": None}}
            finish = first.get("finish_reason")
            return answer, ({"finish_reason": finish} if finish else {}) | {"metadata": metadata}
        case [{"type": str()}, *_] if len(output := read_messages(came, "$.output").messages) == 1:
            return output[0], {}
    raise InvalidDocumentError("$.choices[0]: A choice needs a message")


def _read(message: Any, path: str) -> list[Message]:
    try:
        return shapes.read_item(message)
    except shapes.InvalidMessageError as error:
        raise InvalidDocumentError(f"{path}: {error.reason}") from None


def _name(rest: Json) -> tuple[str | None, str | None, bool]:
    """Return the key of a document's session, its name for the interaction, and whether others may name the session."""
    custom, _ = session_keys.usable_key(rest.pop("custom_id", None))
    metadata = rest.get("metadata")
    for holder in (rest, metadata if isinstance(metadata, dict) else {}):
        for name in _SESSION:
            key, _ = session_keys.usable_key(holder.get(name))
            if key is not None:
                return key, custom, True
    key = custom or session_keys.document_key(rest)
    rest.pop("id", None)
    return key, custom, False
