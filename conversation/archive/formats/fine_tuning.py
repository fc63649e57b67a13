"""OpenAI's format for fine-tuning chat models, one session per line: `{"messages": [{role, content, …}, …], "tools"}`.

A line has the current branch with each message once, and only turns that were answered. Sessions without an answer are
left out. With feedback, a line ends with the last turn that has it, and the answers of other turns have `weight` 0,
which excludes them from training: they are the context of the rated ones.
"""

from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from typing import Self

from pydantic_core import to_json

from conversation.archive.branches import SessionTree
from conversation.archive.exchanges import Exchange, ExchangeReader
from conversation.archive.exporting import ExportItem
from conversation.archive.formats import chat_messages
from conversation.archive.ratings import FeedbackFilter
from conversation.turns.message import Item
from conversation.turns.roles import ASSISTANT, USER

_IN_MEMORY = 1024 * 1024  # bytes of a line; a longer one is on the disk until it is whole
_READ_AT_ONCE = 256 * 1024


def write(
    exported: Iterator[ExportItem], *, rated: FeedbackFilter | None = None, unanswered: bool = False
) -> Iterator[bytes]:
    """Yield the lines, each in parts, so that a long session doesn't have to fit into memory."""
    for each in exported:
        if each.session is None:
            continue
        asked = rated.of_session(each.feedback) if rated else None
        reader = ExchangeReader(chat_messages.to_openai, "all" if unanswered else "answered")
        with SessionTree(each.interactions) as tree, _Line() as line:
            for turn in reader.read(tree.rows(tree.current())):
                trained = asked is None or None in asked or any(row["interaction_id"] in asked for row in turn.rows)
                line.add(turn, trained=trained)
            yield from line.parts(each.session["metadata"])


class _Line:
    """The messages of a line, until it is known which of them it ends with."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed on exit
        self._ends = [0]  # in bytes: the end of each message, after the beginning
        self._trained = [0]  # after which message, ascending: turns that are trained on
        self._tools: list[tuple[int, list[Item]]] = []  # from which message on

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, turn: Exchange, *, trained: bool) -> None:
        """Add a turn in place of what comes after its start."""
        del self._ends[turn.start + 1 :]
        while self._trained[-1] > turn.start:
            self._trained.pop()
        while self._tools and self._tools[-1][0] >= turn.start:
            self._tools.pop()
        self._file.seek(self._ends[-1])
        for item in turn.items:
            weight = {} if trained or item["role"] != ASSISTANT else {"weight": 0}
            separator = b"," if self._ends[-1] else b""
            self._file.write(separator + to_json(item | weight))
            self._ends.append(self._file.tell())
        roles = {item["role"] for item in turn.items}
        if trained and (ASSISTANT in roles or (USER in roles and self._trained[-1])):
            self._trained.append(len(self._ends) - 1)
        if tools := chat_messages.tools_of(*(row["metadata"] for row in reversed(turn.rows))):
            self._tools.append((turn.start, tools))

    def parts(self, of_session: Item) -> Iterator[bytes]:
        """Yield the line in parts; nothing if no answer in it is trained on. `of_session`: its metadata."""
        left = self._ends[self._trained[-1]]
        if not left:
            return
        yield b'{"messages":['
        self._file.seek(0)
        while left:
            part = self._file.read(min(left, _READ_AT_ONCE))
            left -= len(part)
            yield part
        yield b"]"
        held = [tools for start, tools in self._tools if start < self._trained[-1]]
        if tools := held[-1] if held else chat_messages.tools_of(of_session):
            yield b',"tools":' + to_json(tools)
        yield b"}\n"
