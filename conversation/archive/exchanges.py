"""The turns of a session as a model is trained on them: each message once, and only turns that hold together.

A turn goes from somebody's message to the answer to it, with the calls of tools between them. What a prompt repeats of
earlier turns is left out; a prompt that goes back to an earlier place, as one with an edited question does, takes the
conversation back to that place.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any, Literal

from conversation.turns import reading
from conversation.turns.message import Item, Message
from conversation.turns.resent import History
from conversation.turns.roles import ASSISTANT, SYSTEM, TOOL, USER
from logging_store import operations as ops

REASONING = frozenset({"reasoning", "redacted_thinking"})  # kinds of parts


Keep = Literal["answered", "all", "as logged"]


class NotExpressibleError(Exception):
    """A message has a role or a part, a recording for example, that a format has no place for."""


@dataclass(slots=True)
class Exchange:
    """A turn: its interactions and their messages. `start`: how many messages of the conversation come before it.

    `items`: the messages as a format has them. `origins`: for each message, the number of its row, and whether it is of
    the response; it is right for turns that have all of their messages.
    """

    start: int
    rows: list[ops.Interaction] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    origins: list[tuple[int, bool]] = field(default_factory=list)

    @property
    def is_answered(self) -> bool:
        """Whether it ends with an answer, and each call of a tool has its result."""
        last = self.messages[-1] if self.messages else None
        if last is None or last.role != ASSISTANT or last.tool_calls or not says_something(last):
            return False
        return are_calls_answered(self.messages)


class ExchangeReader:
    """Reads the turns of a branch, each message once.

    `express`: returns a message as a format has it, or raises `NotExpressibleError`. `keep`: which turns. Those without
    an answer, also failed ones, are left out unless `all`, which leaves out calls of tools without a result, or
    `as logged`, which has everything. Of a turn that is left out, the instructions stay: they hold for those after it.
    """

    def __init__(self, express: Callable[[Message], Item], keep: Keep = "answered") -> None:
        self._express = express
        self._keep = keep
        self._history = History()
        self._turn = Exchange(0)
        self._calls = 0

    def read(self, rows: Iterable[ops.Interaction]) -> Iterator[Exchange]:
        """Yield the turns. One whose `start` is before the end of what was yielded replaces what came after it."""
        for row in rows:
            yield from self._add(row)
        yield from self._closed()

    def _add(self, row: ops.Interaction) -> Iterator[Exchange]:
        prompt = reading.messages_of(row["prompt"], USER)
        response = reading.messages_of(row["response"], ASSISTANT)
        if self._keep != "as logged":
            prompt, response = ([each for each in said if not _is_blank_answer(each)] for said in (prompt, response))
        history = self._history
        sent = history.read(prompt)
        begins = not prompt or sent.kept < len(history) or any(prompt[n].role == USER for n in sent.new)
        if begins and self._turn.messages:
            yield from self._closed()
            sent = history.read(prompt)
        if is_erased(row):
            return
        if sent.kept < len(history):
            kept = sent.kept if self._keep == "as logged" else history.without_open_calls(sent.kept)
            history.add([], kept)
            self._turn = Exchange(kept)
        new = [prompt[n] for n in sent.new]
        answered = row["status"] == "completed" and any(map(says_something, response))
        if not answered and self._keep == "answered":
            new, response = only_instructions(new), []  # a retry may follow, which has the rest again
        turn = self._turn
        turn.origins += [(len(turn.rows), False)] * len(new) + [(len(turn.rows), True)] * len(response)
        turn.rows.append(row)
        turn.messages += [*new, *response]
        history.add([*new, *response])

    def _closed(self) -> Iterator[Exchange]:
        """Yield the turn that is being read, and begin the next one."""
        turn = self._turn
        turn.messages = linked(turn.messages, self._calls + 1)
        self._calls += sum(len(message.tool_calls) for message in turn.messages)
        said = turn.messages
        if not turn.is_answered and self._keep != "as logged":
            said = complete(said) if self._keep == "all" else only_instructions(said)
        for attempt in (said, only_instructions(said), []):
            try:
                turn.items = [self._express(message) for message in attempt]
            except NotExpressibleError:
                continue
            if attempt != turn.messages:
                self._history.add(attempt, turn.start)
                turn.messages = attempt
            break
        if turn.messages:
            yield turn
        self._turn = Exchange(len(self._history))


def is_erased(row: ops.Interaction) -> bool:
    """Return whether the texts of an interaction were erased or have expired."""
    return row["erased_at"] is not None or row["text_expired_at"] is not None


def says_something(message: Message) -> bool:
    """Return whether a message has more than the model's reasoning."""
    content = message.content
    if isinstance(content, list):
        return any(str(part.get("type")) not in REASONING for part in content) or bool(message.tool_calls)
    said = content.strip() if isinstance(content, str) else content
    return bool(said or message.tool_calls or message.extras.get("refusal"))


def _is_blank_answer(message: Message) -> bool:
    return message.role == ASSISTANT and not says_something(message)


def only_instructions(messages: Iterable[Message]) -> list[Message]:
    return [message for message in messages if message.role == SYSTEM]


def linked(messages: Sequence[Message], first: int = 1) -> list[Message]:
    """Return messages whose calls of tools all have ids, which their results name; some providers send none.

    `first`: the number that the first new id is made of.
    """
    awaited: list[Item] = []
    found = []
    for message in messages:
        if message.role == TOOL:
            call = _answered(message, awaited)
            if call is not None:
                awaited.remove(call)
            found.append(message if call is None else replace(message, tool_call_id=call["id"]))
            continue
        calls = [
            call if call.get("id") else call | {"id": f"call_{n}"} for n, call in enumerate(message.tool_calls, first)
        ]
        first += len(calls)
        awaited = list(calls)
        found.append(replace(message, tool_calls=calls) if calls else message)
    return found


def are_calls_answered(messages: Sequence[Message]) -> bool:
    """Return whether the results of each call of a tool come right after it, and no result is without its call."""
    awaited: set[Any] = set()
    for message in messages:
        if message.role == TOOL:
            if message.tool_call_id not in awaited:
                return False
            awaited.remove(message.tool_call_id)
        elif awaited:
            return False
        else:
            awaited = {call.get("id") for call in message.tool_calls}
    return not awaited


def complete(messages: Sequence[Message]) -> list[Message]:
    """Return messages without calls of tools that have no result, results that have no call, and empty answers.

    A call has one result: the first.
    """
    found: list[Message] = []
    for n, message in enumerate(messages):
        results = {each.tool_call_id for each in takewhile(lambda each: each.role == TOOL, messages[n + 1 :])}
        calls = [call for call in message.tool_calls if call.get("id") in results]
        kept = replace(message, tool_calls=calls) if message.tool_calls else message
        is_kept = _has_call(kept, found) if kept.role == TOOL else says_something(kept)
        if is_kept or kept.role in {USER, SYSTEM}:
            found.append(kept)
    return found


def _has_call(result: Message, before: Sequence[Message]) -> bool:
    for each in reversed(before):
        if each.role != TOOL:
            return any(call.get("id") == result.tool_call_id for call in each.tool_calls)
        if each.tool_call_id == result.tool_call_id:
            return False
    return False


def _answered(result: Message, calls: Sequence[Item]) -> Item | None:
    """Return the call that a result answers: the one it names, else the first one of the same tool, or of any."""
    if result.tool_call_id is not None:
        return next((call for call in calls if call["id"] == result.tool_call_id), None)
    named = (call for call in calls if call.get("function", {}).get("name") == result.name)
    return next(named, None) if result.name else next(iter(calls), None)
