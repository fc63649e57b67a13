"""Parses bodies that aren't strictly JSON, so that what is wrong with one item of a list costs only that item.

Strict means what `jiter` takes: no duplicate keys, NaN, invalid UTF-8 or halves of surrogate pairs. A body with half
pairs is parsed as it is, since the fields' validation replaces or rejects them. Any other one is split at the brackets
and commas of its list, and each item is parsed alone. All of that is linear, and most of it runs in C.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NoReturn

import jiter

from conversation.api import json_brackets
from logging_store.records.intake import JsonPath

_MAX_STEPS = 1_000_000  # of the splitter, which take half a second; a body with more nested brackets isn't split
_MAX_PROBLEMS = 20  # of an item, as many as wrong fields are listed

_BLANK = rb"[ \t\r\n]*+"
_KEY = re.compile(_BLANK + b"(" + json_brackets.TEXT + b")" + _BLANK + b":" + _BLANK, re.DOTALL)
_OPENING = re.compile(_BLANK + rb"\{")
_END = re.compile(_BLANK + rb"\Z")

_POSITION = re.compile(r" at line \d+ column \d+")
_NOT_UTF_8 = re.compile("[\udc80-\udcff]")  # how Python decodes bytes that are no UTF-8


class Unparsed:
    """Stands in a body for an item that can't be parsed. `problems`: a path within the item and a sentence for each."""

    def __init__(self, problems: Sequence[tuple[JsonPath, str]]) -> None:
        self.problems = problems


class _Repeated(dict[str, Any]):
    """An object with a key that is there twice, while the problems of its item are looked for."""

    key = ""


class _NotSplitError(Exception):
    """The body has no such list, or no end."""


def parse(body: bytes, items: str | None, most: int) -> tuple[Any, bool]:
    """Return a body's value, and whether texts in it may hold half pairs.

    `items`: the name of the list in which an item that can't be parsed becomes an `Unparsed`. `most`: how many items
    such a list may have. Raises the `ValueError` of the strict parser.
    """
    try:
        return _parse(body)
    except ValueError:
        if items is not None and (parted := _parted(body, items, most)) is not None:
            return parted, True
        raise


def _parse(text: bytes) -> tuple[Any, bool]:
    """Return a value, and whether texts in it may hold half pairs. Raises the `ValueError` of the strict parser."""
    try:
        return _strict(text), False
    except ValueError as error:
        try:
            return _with_half_pairs(text), True
        except (ValueError, RecursionError):
            raise error from None


def _strict(text: bytes) -> Any:
    return jiter.from_json(text, allow_inf_nan=False, catch_duplicate_keys=True)


def _with_half_pairs(text: bytes) -> Any:
    """Parse as strictly, but keep half pairs as Python does."""
    return json.loads(text.decode(), object_pairs_hook=_distinct, parse_constant=_refuse)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key is there twice")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"JSON has no {constant}")


def _parted(body: bytes, items: str, most: int) -> dict[str, Any] | None:
    """Return the body with each item parsed alone; None if it can't be split, or isn't JSON around the items."""
    splitter = _Splitter(body)
    try:
        begin, end, texts = splitter.find(json.dumps(items).encode(), most)
        value, _ = _parse(body[:begin] + b"[]" + body[end:])
    except (_NotSplitError, ValueError):
        return None
    if not isinstance(value, dict):
        return None
    value[items] = [_parse_item(text) for text in texts]
    return value


def _parse_item(text: bytes) -> Any:
    try:
        return _parse(text)[0]
    except ValueError as error:
        return Unparsed(_problems(text) or [((), f"Must be JSON: {_POSITION.sub('', str(error))}")])


class _Splitter:
    """Finds the items of a list by brackets, commas and strings alone."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._steps = 0

    def find(self, key: bytes, most: int) -> tuple[int, int, list[bytes]]:
        """Return where the list under `key` begins and ends, and its items. Raises `_NotSplitError`."""
        body = self._body
        opening = _OPENING.match(body)
        at = opening.end() if opening else len(body)
        found: tuple[int, int, list[bytes]] | None = None
        while (name := _KEY.match(body, at)) is not None:
            begin = at = name.end()
            if name[1] == key and found is None and body[at : at + 1] == b"[":
                texts, at = self._items(at + 1, most)
                found = begin, at, texts
            at = self._next(at)
            if body[at : at + 1] == b"}" and _END.match(body, at + 1) and found:
                return found
            at += 1
        raise _NotSplitError

    def _items(self, at: int, most: int) -> tuple[list[bytes], int]:
        """Return the items of a list from behind its bracket on, and the place behind its end."""
        texts: list[bytes] = []
        while len(texts) < most:
            end = self._next(at)
            text = self._body[at:end].strip(b" \t\r\n")
            closes = self._body[end : end + 1] == b"]"
            if text or texts or not closes:
                texts.append(text)
            if closes:
                return texts, end + 1
            if self._body[end : end + 1] != b",":
                break
            at = end + 1
        raise _NotSplitError

    def _next(self, at: int) -> int:
        """Return the place of the next comma or closing bracket that isn't within brackets."""
        depth = 0
        while self._steps < _MAX_STEPS:
            self._steps += 1
            found = (json_brackets.WITHIN if depth else json_brackets.TO_COMMA).match(self._body, at)
            is_stuck = not found or found.end() == at
            at = found.end() if found else at
            if leaf := json_brackets.LEAF.match(self._body, at):
                at = leaf.end()
                continue
            bracket = self._body[at : at + 1]
            if depth == 0 and bracket in {b",", b"]", b"}"}:
                return at
            if bracket == b'"' and not is_stuck:
                continue
            if bracket in {b"", b'"'}:  # the end, or a string without an end
                break
            depth += 1 if bracket in {b"[", b"{"} else -1
            at += 1
        raise _NotSplitError


def _problems(text: bytes) -> list[tuple[JsonPath, str]]:
    """Return what isn't strictly JSON in an item, with its path; nothing if only a parser's message can name it."""
    decoder = json.JSONDecoder(object_pairs_hook=_noted, parse_constant=_Constant, strict=False)
    try:
        return list(islice(_walk(decoder.decode(text.decode(errors="surrogateescape")), ()), _MAX_PROBLEMS))
    except (ValueError, RecursionError):
        return []


class _Constant:
    def __init__(self, name: str) -> None:
        self.name = name


def _noted(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    counts = Counter(name for name, _ in pairs)
    repeated = _Repeated(value)
    repeated.key = next(name for name, count in counts.items() if count > 1)
    return repeated


def _walk(value: Any, path: JsonPath) -> Iterator[tuple[JsonPath, str]]:
    match value:
        case str() if _NOT_UTF_8.search(value):
            yield path, "Must be UTF-8 text"
        case _Constant():
            yield path, f"JSON has no {value.name}; leave it out, or send null"
        case list():
            for index, item in enumerate(value):
                yield from _walk(item, (*path, index))
        case dict():
            if isinstance(value, _Repeated):
                yield (*path, value.key), "This key is there twice"
            for key, item in value.items():
                yield from _walk(key, path)
                yield from _walk(item, (*path, key))
