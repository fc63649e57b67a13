"""Reads the JSON documents of a file one by one: JSON lines, an array, or pretty-printed documents.

The start of the file decides which of them it is. Only one document and a read buffer are in memory; a document longer
than `MAX_DOCUMENT` is rejected. Each is parsed as strictly as a request's body, and an invalid one doesn't affect the
others. NUL and halves of surrogate pairs in its texts are replaced as in a request.
"""

import io
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from gzip import BadGzipFile
from typing import Any

from pydantic import TypeAdapter, ValidationError

from conversation.api import body_parts, json_brackets
from conversation.api.requests import json_path
from conversation.archive.dialogues import describe_errors
from conversation.archive.entries import AlteredTexts, Document, Entry, Location, RejectedEntry
from logging_store.records.intake import Intake
from logging_store.records.json_values import JsonObject

MAX_DOCUMENT = 32 * 1024 * 1024  # bytes; MongoDB's largest document has 16 MB, about twice as much as JSON

_DOCUMENT: TypeAdapter[dict[str, Any]] = TypeAdapter(JsonObject)
_READ_AT_ONCE = 256 * 1024
_MAX_PATHS = 20  # of altered texts that are listed of one document
_BLANK = b" \t\r\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SPANS_LINES = re.compile(rb"\{[ \t\r]*\n")  # as `mongoexport --pretty` and jq write

_REST_OF_TEXT = re.compile(rb'(?:[^"\\]++|\\.)*', re.DOTALL)


class _TruncatedError(Exception):
    """The file ends too early, or has something after its end."""


def entries(
    stream: io.BufferedIOBase,
    read_entries: Callable[[Iterable[Document | RejectedEntry]], Iterator[Entry]],
    *,
    replaces: bool = True,
) -> Iterator[Entry]:
    """Yield what a reader finds in the documents of a stream, and `AlteredTexts` for documents that were altered.

    `replaces`: see `read`.
    """
    altered: list[AlteredTexts] = []

    def noted() -> Iterator[Document | RejectedEntry]:
        for document in read(stream, replaces=replaces):
            if isinstance(document, Document) and document.altered:
                altered.append(AlteredTexts(document.location, document.altered))
            yield document

    for entry in read_entries(noted()):
        yield from altered
        altered.clear()
        yield entry


def read(stream: io.BufferedIOBase, *, replaces: bool = True) -> Iterator[Document | RejectedEntry]:
    """Yield the documents of a stream, and a `RejectedEntry` in place of each invalid one.

    `replaces`: whether texts that can't be stored are replaced; else a document with half pairs is rejected.
    """
    location = Location("line", 1)
    try:
        head = stream.read(_READ_AT_ONCE).removeprefix(_BYTE_ORDER_MARK)
        begins = head.lstrip(_BLANK)
        chunks = _chunks(head, stream)
        if begins.startswith(b"["):
            location, texts = Location("index", 0), _DocumentSplitter(chunks).elements()
        elif _SPANS_LINES.match(begins):
            location, texts = Location("index", 0), _DocumentSplitter(chunks).objects()
        else:
            texts = _lines(chunks)
        for text in texts:
            if text is None:
                yield RejectedEntry(location, f"Longer than {MAX_DOCUMENT:,} bytes")
            elif location.kind == "index" or text.strip(_BLANK):
                yield _parse(location, text, replaces=replaces)
            location = Location(location.kind, location.number + 1)
    except (EOFError, BadGzipFile, zlib.error) as error:
        yield RejectedEntry(location, f"The gzip is damaged or cut short: {error}")
    except _TruncatedError as error:
        yield RejectedEntry(location, str(error))


def _parse(location: Location, text: bytes, *, replaces: bool) -> Document | RejectedEntry:
    try:
        value, has_half_pairs = body_parts.parse(text, None, 0)
    except ValueError as error:
        return RejectedEntry(location, f"Invalid JSON: {error}", text.decode(errors="backslashreplace"))
    if not isinstance(value, dict):
        return RejectedEntry(location, "Must be an object", text.decode())
    if not has_half_pairs and (b"\\u0000" not in text or not replaces):
        # the validation of a record rejects NUL, and leaves its neighbours
        return Document(location, value, size=len(text))
    how = Intake(replaces=replaces, has_half_pairs=True)
    try:
        plain = _DOCUMENT.validate_python(value, context=how)
    except ValidationError as error:
        return RejectedEntry(location, describe_errors(error), text.decode())
    return Document(location, plain, tuple(map(json_path, how.altered[:_MAX_PATHS])), len(text))


def _chunks(head: bytes, stream: io.BufferedIOBase) -> Iterator[bytes]:
    while head:
        yield head
        head = stream.read(_READ_AT_ONCE)


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes | None]:
    """Yield each line, also blank ones; None for one that is too long."""
    line, too_long = bytearray(), False
    for chunk in chunks:
        *ends, beginning = chunk.split(b"\n")
        for end in ends:
            line += end
            yield None if too_long or len(line) > MAX_DOCUMENT else bytes(line)
            line, too_long = bytearray(), False
        line += beginning
        if len(line) > MAX_DOCUMENT:
            line, too_long = bytearray(), True
    if line or too_long:
        yield None if too_long else bytes(line)


class _DocumentSplitter:
    """Finds the ends of documents by their brackets alone, so that invalid JSON between them is isolated as well."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._read = bytearray()
        self._at = 0  # scanned up to here
        self._begin = 0  # of the document
        self._depth = 0
        self._in_text = False
        self._too_long = False

    def elements(self) -> Iterator[bytes | None]:
        """Yield the elements of an array; None for one that is too long."""
        self._next(json_brackets.WITHIN, leaves=False)  # the bracket that opens it
        self._begin = self._at
        some = False
        while (
            found := self._next(json_brackets.WITHIN if self._depth else json_brackets.TO_COMMA, leaves=True)
        ) is not None:
            if self._depth == 0 and found in b",]":
                element = self._cut(self._at - 1)
                if some or found == b"," or element is None or element.strip(_BLANK):
                    yield element
                some = True
                if found == b"]":
                    self._expect_nothing_more()
                    return
            else:
                self._nest(found)
        element = self._cut(self._at)
        if element is None or element.strip(_BLANK):
            yield element
        raise _TruncatedError("The array has no end: the file is cut short")

    def objects(self) -> Iterator[bytes | None]:
        """Yield documents that follow each other; None for one that is too long."""
        while (found := self._next(json_brackets.WITHIN, leaves=self._depth > 0)) is not None:
            self._nest(found)
            if self._depth == 0:
                yield self._cut(self._at)
        rest = self._cut(self._at)
        if rest is None or rest.strip(_BLANK):
            yield rest

    def _nest(self, bracket: bytes) -> None:
        if bracket in b"[{":
            self._depth += 1
        elif bracket in b"]}":
            self._depth = max(0, self._depth - 1)

    def _next(self, content: re.Pattern[bytes], *, leaves: bool) -> bytes | None:
        """Move past the next bracket, or comma, outside of strings, and return it; None at the end of the file.

        `leaves`: move past whole objects and lists that contain no others, too, where they are in the buffer.
        """
        while True:
            if self._in_text:
                self._skip(_REST_OF_TEXT)
                if self._here() == b'"':
                    self._in_text = False
                    self._at += 1
            if not self._in_text:
                self._skip(content)
                while leaves and self._skip(json_brackets.LEAF):
                    self._skip(content)
                match self._here():
                    case b'"':
                        self._in_text = True  # its end may not be in the buffer yet
                        self._at += 1
                        continue
                    case b"":
                        pass
                    case found:
                        self._at += 1
                        return found
            if not self._more():
                self._at = len(self._read)
                return None

    def _skip(self, content: re.Pattern[bytes]) -> bool:
        """Move past what matches; return whether anything does."""
        found = content.match(self._read, self._at)
        if found:
            self._at = found.end()
        return found is not None

    def _here(self) -> bytes:
        return bytes(self._read[self._at : self._at + 1])

    def _more(self) -> bool:
        """Read a chunk; drop what is before the current document, and all of one that is too long."""
        if self._at - self._begin > MAX_DOCUMENT:
            self._too_long = True
        if self._too_long:
            self._begin = self._at
        del self._read[: self._begin]
        self._at -= self._begin
        self._begin = 0
        chunk = next(self._chunks, b"")
        self._read += chunk
        return bool(chunk)

    def _cut(self, end: int) -> bytes | None:
        """Return the document that ends here; the next one begins at the scan position."""
        text = bytes(self._read[self._begin : end])
        too_long = self._too_long or len(text) > MAX_DOCUMENT
        self._begin, self._too_long = self._at, False
        return None if too_long else text

    def _expect_nothing_more(self) -> None:
        while True:
            if self._read[self._at :].strip(_BLANK):
                raise _TruncatedError("Something follows the end of the array")
            self._at = self._begin = len(self._read)
            if not self._more():
                return
