"""OpenAI's format for fine-tuning chat models, one session per line: `{"messages": [{role, content, …}, …]}`.

The format allows no other fields in a line. Sessions without messages are left out.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

from pydantic_core import to_json

from conversation.archive.exporting import ExportItem
from logging_store import operations as ops


def write(exported: Iterator[ExportItem]) -> Iterator[bytes]:
    """Yield the lines, each in parts, so that a long session doesn't have to fit into memory."""
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
                # the format has no field for the time of a message
                yield from ({key: value for key, value in each.items() if key != "said_at"} for each in content)
