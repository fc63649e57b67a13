"""Finds the messages of a prompt that only repeat earlier ones: stateless clients send their whole history each time.

Messages are compared by what they say, as `matching` has it; ids don't count, since clients drop them. The last message
of a prompt is never a repetition: somebody said it again.
"""

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
        self._messages: list[tuple[bytes, str, int]] = []  # digest, role, number of calls of tools

    def __len__(self) -> int:
        return len(self._messages)

    def read(self, prompt: Sequence[Message]) -> Prompt:
        """Return what a prompt adds. The history stays as it is."""
        digests = [digest(message) for message in prompt]
        known = {each for each, role, _ in self._messages if role == SYSTEM}
        said = [n for n, message in enumerate(prompt) if message.role != SYSTEM]
        kept, repeated = self._repeated([digests[n] for n in said[:-1]])
        new = [n for n, message in enumerate(prompt) if message.role == SYSTEM and digests[n] not in known]
        return Prompt(kept, sorted(new + said[repeated:]))

    def add(self, messages: Sequence[Message], kept: int | None = None) -> None:
        """Add messages, after the first `kept` of those that are there."""
        if kept is not None:
            del self._messages[kept:]
        self._messages += [(digest(message), message.role, len(message.tool_calls)) for message in messages]

    def without_open_calls(self, kept: int) -> int:
        """Return how many of the first `kept` messages stay: without a call at their end whose result is missing."""
        for results, (_, role, calls) in enumerate(reversed(self._messages[:kept])):
            if role != TOOL:
                return kept if calls <= results else kept - results - 1
        return kept

    def _repeated(self, sent: Sequence[bytes]) -> tuple[int, int]:
        """Return how many messages are kept, and how many of `sent`, which has no instructions, repeat them."""
        places = [n for n, (_, role, _) in enumerate(self._messages) if role != SYSTEM]
        same = 0
        while same < min(len(sent), len(places)) and self._messages[places[same]][0] == sent[same]:
            same += 1
        if same == len(places):
            return len(self._messages), same
        if any(self._messages[place][1] == ASSISTANT for place in places[:same]):
            return places[same], same  # the whole history up to an edited or repeated question
        # a client that sends the newest messages only
        own = [self._messages[place][0] for place in places]
        window = next((n for n in range(min(len(sent), len(own)), 0, -1) if own[-n:] == list(sent[:n])), 0)
        return len(self._messages), window


def digest(message: Message) -> bytes:
    """Return a digest that is the same for a message and its repetition."""
    return blake2b(matching.key(message).encode(errors="surrogatepass"), digest_size=16).digest()
