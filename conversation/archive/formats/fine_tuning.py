"""A session as one line of OpenAI's format for fine-tuning chat models: `{"messages": [{role, content, …}, …]}`.

Nothing else is in a line, as the format asks for. A session in which nobody has said anything is left out.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

from pydantic_core import to_json

from conversation.archive.exporting import Exported
from logging_store import operations as ops


def write(exported: Iterator[Exported]) -> Iterator[bytes]:
    """Yield the lines, each in parts, so that a long session need not be in memory."""
    for each in exported:
        messages = chain.from_iterable(_messages(interaction) for interaction in each.interactions)
        first = next(messages, None)
        if first is None:
            continue
        yield b'{"messages":[' + to_json(first)
        for message in messages:
            yield b"," + to_json(message)
        yield b"]}\n"


def _messages(interaction: ops.Interaction) -> Iterator[dict[str, Any]]:
    for role, content in (("user", interaction["prompt"]), ("assistant", interaction["response"])):
        match content:
            case str():
                yield {"role": role, "content": content}
            case list():
                # when something was said is no field of this format
                yield from ({key: value for key, value in each.items() if key != "said_at"} for each in content)
