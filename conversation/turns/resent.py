"""Finds the messages of a prompt that only repeat earlier ones: stateless clients send their whole history each time.

Messages are compared by what they say, as `matching` has it; ids don't count, since clients drop them. The last message
of a prompt is never a repetition: somebody said it again.
"""

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from conversation.turns import matching
from conversation.turns.message import Message
from conversation.turns.roles import ASSISTANT, SYSTEM, TOOL


class Prompt(NamedTuple):
    """What a prompt adds to a conversation.

    `kept`: how many messages of the conversation are still part of it; fewer than before if the prompt goes back to an
    earlier place. `new`: the indices of the prompt's messages that aren't repetitions, ascending.
    """

    kept: int
    new: list[int]


class History:
    """The messages of a conversation so far, as the latest call of the model saw them. It holds digests, not texts."""

    def __init__(self) -> None:
        self._messages: list[_Said] = []
        self._places: list[int] = []  # of the messages that aren't instructions
        self._instructions: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._messages)

    def read(self, prompt: Sequence[Message]) -> Prompt:
        """Return what a prompt adds. The history stays as it is."""
        digests = [digest(message) for message in prompt]
        said = [n for n, message in enumerate(prompt) if message.role != SYSTEM]
        kept, repeated = self._repeated([digests[n] for n in said[:-1]])
        new = [n for n, message in enumerate(prompt) if message.role == SYSTEM and digests[n] not in self._instructions]
        return Prompt(kept, sorted(new + said[repeated:]))

    def add(self, messages: Sequence[Message], kept: int | None = None) -> None:
        """Add messages, after the first `kept` of those that are there."""
        if kept is not None:
            self._forget(kept)
        for message in messages:
            said = _Said(digest(message), message.role, len(message.tool_calls))
            if said.role == SYSTEM:
                self._instructions[said.digest] += 1
            else:
                self._places.append(len(self._messages))
            self._messages.append(said)

    def without_open_calls(self, kept: int) -> int:
        """Return how many of the first `kept` messages stay: without a call at their end whose result is missing."""
        results = 0
        while results < kept and self._messages[kept - results - 1].role == TOOL:
            results += 1
        if results == kept or self._messages[kept - results - 1].calls <= results:
            return kept
        return kept - results - 1

    def _forget(self, kept: int) -> None:
        for said in self._messages[kept:]:
            if said.role == SYSTEM:
                self._instructions[said.digest] -= 1
                if not self._instructions[said.digest]:
                    del self._instructions[said.digest]
            else:
                self._places.pop()
        del self._messages[kept:]

    def _repeated(self, sent: Sequence[bytes]) -> tuple[int, int]:
        """Return how many messages are kept, and how many of `sent`, which has no instructions, repeat them."""
        count = len(self._places)
        same, has_answer = 0, False
        while same < min(len(sent), count) and self._said(same).digest == sent[same]:
            has_answer |= self._said(same).role == ASSISTANT
            same += 1
        if same == count:
            return len(self._messages), same
        if has_answer:
            return self._places[same], same  # the whole history up to an edited or repeated question
        # a client that sends the newest messages only
        most = min(len(sent), count)
        tail = [self._said(n).digest for n in range(count - most, count)]
        return len(self._messages), _longest_overlap(tail, sent[:most])

    def _said(self, n: int) -> "_Said":
        """Return a message by its place among those that aren't instructions."""
        return self._messages[self._places[n]]


class _Said(NamedTuple):
    digest: bytes
    role: str
    calls: int  # of tools


def _longest_overlap(tail: Sequence[bytes], sent: Sequence[bytes]) -> int:
    """Return how many items at the end of `tail` are those at the beginning of `sent`: as many as possible.

    In linear time, by Knuth, Morris and Pratt: a conversation may say the same again and again.
    """
    shorter = [0] * len(sent)  # for each beginning of `sent`: the longest shorter one at its end
    same = 0
    for n in range(1, len(sent)):
        while same and sent[n] != sent[same]:
            same = shorter[same - 1]
        same += sent[n] == sent[same]
        shorter[n] = same
    same = 0
    for each in tail:
        while same and (same == len(sent) or each != sent[same]):
            same = shorter[same - 1]
        same += same < len(sent) and each == sent[same]
    return same


def digest(message: Message) -> bytes:
    """Return a digest that is the same for a message and its repetition."""
    return blake2b(matching.key(message).encode(errors="surrogatepass"), digest_size=16).digest()
