"""The terms of a search, their positions in a text, and excerpts around them.

Texts are compared folded, as `turnlog.fold` does in SQL: lower case, compatible forms unified, invisible characters
removed. Positions are code points of the original text.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from logging_store import operations as ops

MOST_TERMS = 10
_BEFORE, _LONGEST = 60, 240  # characters of a snippet: before its first mark, and of all of it
_SLACK = 20  # characters that an end of a snippet may move to a word boundary
_TERM = re.compile(r'"([^"]*)"|(\S+)')
_INVISIBLE = re.compile("[\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufe0e\ufe0f\ufeff]")
# scripts without spaces between words, and Korean, whose particles are attached to words
_WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)


class Mark(NamedTuple):
    """The position of a term: from `start` to before `end`."""

    start: int
    end: int


class Snippet(NamedTuple):
    """An excerpt of a text around its first mark. `starts_at`: its offset in the text."""

    text: str
    starts_at: int
    marks: list[Mark]


def terms_of(query: str) -> list[str]:
    """Return a query's terms: words, and "phrases in quotes". Empty if folding leaves nothing to search for."""
    terms = (phrase or word for phrase, word in _TERM.findall(query))
    return list(dict.fromkeys(term for term in terms if fold(term)))[:MOST_TERMS]


def fold(text: str) -> str:
    """Return the form of a text by which it is compared."""
    return text.lower() if text.isascii() else _folded(text)


def excerpt(text: str, terms: Sequence[str], *, words: bool = False) -> Snippet:
    """Return an excerpt of a text with its marks. `words`: mark whole words only."""
    marks = find(text, terms, words=words)
    first = marks[0].start if marks else 0
    start = _between_words(text, max(0, first - _BEFORE), forward=True)
    end = _between_words(text, min(len(text), start + _LONGEST), forward=False)
    if start > first or (marks and end < marks[0].end):  # a word longer than the snippet
        start, end = max(0, first - _BEFORE), min(len(text), first + _LONGEST - _BEFORE)
    inside = [Mark(max(mark.start, start) - start, min(mark.end, end) - start) for mark in marks]
    return Snippet(text[start:end], start, [mark for mark in inside if mark.start < mark.end])


def find(text: str, terms: Sequence[str], *, words: bool = False) -> list[Mark]:
    """Return the positions of terms in a text, in order; adjacent and overlapping ones are merged."""
    folded, starts, ends = _fold_with_offsets(text)
    found: list[tuple[int, int]] = []
    for term in map(fold, terms):
        at = folded.find(term)
        while at >= 0:
            behind = at + len(term)
            if not words or _is_word(folded, at, behind):
                found.append((at, behind))
            at = folded.find(term, at + 1)
    marks: list[Mark] = []
    for at, behind in sorted(found):
        mark = Mark(starts[at], ends[behind - 1])
        if marks and mark.start <= marks[-1].end:
            marks[-1] = Mark(marks[-1].start, max(mark.end, marks[-1].end))
        else:
            marks.append(mark)
    return marks


def split_at_marks(snippet: Snippet) -> Iterator[tuple[str, bool]]:
    """Yield the pieces of a snippet, each with whether it is marked."""
    done = 0
    for mark in snippet.marks:
        yield snippet.text[done : mark.start], False
        yield snippet.text[mark.start : mark.end], True
        done = mark.end
    yield snippet.text[done:], False


def excerpt_of_hit(hit: ops.SearchHit, terms: Sequence[str], *, words: bool) -> Snippet:
    """Return the snippet of a store's hit, whose text is a part of the prompt or response."""
    snippet = excerpt(hit["text"] or "", terms, words=words)
    return snippet._replace(starts_at=snippet.starts_at + hit["starts"])


def _folded(text: str) -> str:
    lower = (
        character.lower()[0] for character in unicodedata.normalize("NFKC", text)
    )  # one character for one, as in SQL
    return _INVISIBLE.sub("", "".join(lower)).replace("\u03c2", "\u03c3")  # a final sigma is a sigma


def _fold_with_offsets(text: str) -> tuple[str, Sequence[int], Sequence[int]]:
    """Return a text folded, and for each folded character the start and the end of its original."""
    if text.isascii():
        return text.lower(), range(len(text)), range(1, len(text) + 1)
    folded: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for start, end in _clusters(text):
        for character in _folded(text[start:end]):
            folded.append(character)
            starts.append(start)
            ends.append(end)
    return "".join(folded), starts, ends


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    """Yield the ranges of characters that fold together: a letter with its accents, the parts of a syllable."""
    start = 0
    for at in range(1, len(text) + 1):
        if at == len(text) or not _is_folded_with(text[start:at], text[at]):
            yield start, at
            start = at


def _is_folded_with(cluster: str, character: str) -> bool:
    if character.isascii():
        return False
    if unicodedata.combining(character):
        return True
    apart = unicodedata.normalize("NFKC", cluster) + unicodedata.normalize("NFKC", character)
    return unicodedata.normalize("NFKC", cluster + character) != apart


def _is_word(text: str, start: int, end: int) -> bool:
    begins = start == 0 or not _is_letter(text[start - 1]) or _WITHOUT_SPACES.match(text[start])
    return bool(begins and (end == len(text) or not _is_letter(text[end]) or _WITHOUT_SPACES.match(text[end - 1])))


def _is_letter(character: str) -> bool:
    return character.isalnum() or character == "_"


def _between_words(text: str, at: int, *, forward: bool) -> int:
    """Return the nearest word boundary: after `at` if `forward`, else before it; `at` if none is near."""
    if at in {0, len(text)}:
        return at
    if forward:
        space = re.compile(r"\s+").search(text, at, min(len(text), at + _SLACK))
        return space.end() if space else at
    spaces = list(re.compile(r"\s").finditer(text, max(0, at - _SLACK), at))
    return spaces[-1].start() if spaces else at
