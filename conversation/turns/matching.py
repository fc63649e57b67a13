"""Compares messages, and finds which of a list are stored already.

Two messages are the same if their ids are; without an id on both sides, if they say the same: role, content and calls
of tools in a normal form. A text and its one text part are the same; reasoning and further fields don't count, since
few clients send them back.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from conversation.turns.message import Message

_ENCODE = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class Run:
    """Messages that are stored: `length` of them, from `sent` in the list that came and from `stored` in the log."""

    sent: int
    stored: int
    length: int


NO_RUN = Run(0, 0, 0)


def key(message: Message) -> str:
    """Return what a message says in a normal form."""
    content = message.content
    if isinstance(content, list):
        parts: list[Any] = [_part(part) for part in content if not _is_reasoning(part)]
        content = parts[0] if len(parts) == 1 and isinstance(parts[0], str) else parts
    calls = [_call(call) for call in message.tool_calls]
    said = [message.role, content or "", calls, message.tool_call_id or "", message.name or ""]
    return _ENCODE(said)


def _is_reasoning(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "reasoning"


def _part(part: Any) -> Any:
    match part:
        case {"type": "text", "text": str(text)}:
            return text
    return part


def _call(call: dict[str, Any]) -> list[Any]:
    function = call.get("function")
    if not isinstance(function, dict):
        return [call]
    arguments = function.get("arguments")
    with suppress(ValueError):  # a text that isn't JSON is compared as it is
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    return [call.get("id"), function.get("name"), arguments]


class Line:
    """Messages with their normal forms."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self.keys = [key(message) for message in messages]

    def __len__(self) -> int:
        return len(self.messages)


def is_grown(one: Message, other: Message) -> bool:
    """Return whether one answer's text begins with the other's, as that of a growing answer does."""
    if not one.is_answer or not other.is_answer or not isinstance(one.content, str):
        return False
    return (
        isinstance(other.content, str)
        and bool(one.content and other.content)
        and (one.content.startswith(other.content) or other.content.startswith(one.content))
    )


def same(stored: Message, stored_key: str, sent: Message, sent_key: str, *, growing: bool = False) -> bool:
    """Return whether a message is the stored one. `growing`: an answer may be longer or shorter than the stored one."""
    if stored.id is not None and sent.id is not None:
        return stored.id == sent.id and stored.role == sent.role
    if stored.reply_to is not None and sent.reply_to is not None and stored.reply_to != sent.reply_to:
        return False
    return stored_key == sent_key or (growing and is_grown(stored, sent))


def find_run(stored: Line, sent: Line, *, is_whole: bool = True, from_start: bool = False) -> Run:
    """Return which messages of a list the log has already, as one run of the list and of the log.

    The list may be the whole conversation, its last messages, or only what is new; it may also leave what is stored and
    go another way (an edited question, another answer). What follows the run in the list is new.

    `is_whole`: `stored` begins with the conversation; else it only has its last messages. `from_start`: so does the
    list.

    A run up to the last stored message is history, or a retry, however short. One that ends earlier is only taken with
    evidence, since people repeat themselves: an equal id, or an answer among two equal messages. Or it is the beginning
    of both, with another answer to the same question: see `_begins_again`.
    """
    if not stored or not sent:
        return NO_RUN
    if from_start and is_whole and (run := _run(stored, sent, 0)).length:
        return run
    up_to_end, earlier = NO_RUN, NO_RUN
    for offset in range(len(stored) - 1, -len(sent), -1):
        run = _run(stored, sent, offset)
        if not run.length:
            continue
        has_end = run.stored + run.length == len(stored)
        if (
            has_end
            and run.length > up_to_end.length
            and (offset >= 0 or not is_whole or _is_certain(stored, sent, run))
        ):
            up_to_end = run
        elif not has_end and run.length > earlier.length and _is_certain(stored, sent, run):
            earlier = run
    if up_to_end.length or earlier.length or not is_whole:
        return up_to_end if up_to_end.length else earlier
    return _begins_again(stored, sent)


def _run(stored: Line, sent: Line, offset: int) -> Run:
    """Return the run of equal messages with this offset between the two lists that begins where they overlap."""
    first_sent, first_stored = max(0, -offset), max(0, offset)
    length = 0
    for at_sent, at_stored in zip(range(first_sent, len(sent)), range(first_stored, len(stored)), strict=False):
        if not same(
            stored.messages[at_stored],
            stored.keys[at_stored],
            sent.messages[at_sent],
            sent.keys[at_sent],
            growing=at_stored == len(stored) - 1,
        ):
            break
        length += 1
    return Run(first_sent, first_stored, length)


def _begins_again(stored: Line, sent: Line) -> Run:
    """Return the questions with which a list and a whole log begin, if each goes on with an answer of its own.

    The list regenerates the first answer. A question that was asked again before, or whose times differ, is a new one.
    """
    run = _run(stored, sent, 0)
    if not run.length or run.length == min(len(stored), len(sent)):
        return NO_RUN
    pairs = list(zip(stored.messages[: run.length], sent.messages[: run.length], strict=True))
    is_same = all(
        None in {one.created_at, other.created_at} or one.created_at == other.created_at for one, other in pairs
    )
    is_repeated = not set(stored.keys[: run.length]).isdisjoint(stored.keys[run.length :])
    are_answers = stored.messages[run.length].is_answer and sent.messages[run.length].is_answer
    return run if is_same and are_answers and not is_repeated else NO_RUN


def _is_certain(stored: Line, sent: Line, run: Run) -> bool:
    mine = sent.messages[run.sent : run.sent + run.length]
    theirs = stored.messages[run.stored : run.stored + run.length]
    pairs = list(zip(mine, theirs, strict=True))
    if any(one.id is not None and one.id == other.id for one, other in pairs):
        return True
    # the list's own messages stand for texts that are gone: of those an answer says nothing, but a second question has
    # an id that derives from the first one's
    answers = any(one.is_answer and one is not other for one, other in pairs)
    return run.length > 1 and (answers or sum(one is other and not one.is_answer for one, other in pairs) > 1)
