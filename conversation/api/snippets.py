"""What a search is for, and where in a text that stands.

Texts are compared folded, as turnlog.fold does: small letters, compatible forms as one, marks that nobody sees left
out. Places are counted in code points of the text as it was said, whatever folding made of it.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from logging_store import operations as ops

MOST_TERMS = 10
_BEFORE, _LONGEST = 60, 240  # characters of a snippet: before its first mark, and of all of it
_SLACK = 20  # how far an end of a snippet moves to stand between words
_TERM = re.compile(r'"([^"]*)"|(\S+)')
_UNSEEN = re.compile("[\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufe0e\ufe0f\ufeff]")
# scripts that don't part their words, and Korean, whose particles hang on them
_UNPARTED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)


class Mark(NamedTuple):
    """Where a term stands: from `start`, `end` is behind it."""

    start: int
    end: int


class Snippet(NamedTuple):
    """A part of a text, around its first mark. `starts_at`: where in the text it was taken from."""

    text: str
    starts_at: int
    marks: list[Mark]


def terms_of(query: str) -> list[str]:
    """Return what a query is made of: words, and "several in quotes". Empty if nothing is left to search for."""
    terms = (phrase or word for phrase, word in _TERM.findall(query))
    return list(dict.fromkeys(term for term in terms if fold(term)))[:MOST_TERMS]


def fold(text: str) -> str:
    """Return what a text is compared by."""
    return text.lower() if text.isascii() else _folded(text)


def take(text: str, terms: Sequence[str], *, words: bool = False) -> Snippet:
    """Return a part of a text with its marks. `words`: only whole words are marked."""
    marks = find(text, terms, words=words)
    first = marks[0].start if marks else 0
    start = _between_words(text, max(0, first - _BEFORE), forward=True)
    end = _between_words(text, min(len(text), start + _LONGEST), forward=False)
    if start > first or (marks and end < marks[0].end):  # a word without end
        start, end = max(0, first - _BEFORE), min(len(text), first + _LONGEST - _BEFORE)
    inside = [Mark(max(mark.start, start) - start, min(mark.end, end) - start) for mark in marks]
    return Snippet(text[start:end], start, [mark for mark in inside if mark.start < mark.end])


def find(text: str, terms: Sequence[str], *, words: bool = False) -> list[Mark]:
    """Return where terms stand in a text, in order; those that touch are one."""
    folded, starts, ends = _with_places(text)
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


def parted(snippet: Snippet) -> Iterator[tuple[str, bool]]:
    """Yield the pieces of a snippet, each with whether it is marked."""
    done = 0
    for mark in snippet.marks:
        yield snippet.text[done : mark.start], False
        yield snippet.text[mark.start : mark.end], True
        done = mark.end
    yield snippet.text[done:], False


def of_hit(hit: ops.SearchHit, terms: Sequence[str], *, words: bool) -> Snippet:
    """Return the snippet of a hit as the store gives it, whose text is a part of what was said."""
    snippet = take(hit["text"] or "", terms, words=words)
    return snippet._replace(starts_at=snippet.starts_at + hit["starts"])


def _folded(text: str) -> str:
    lower = (character.lower()[0] for character in unicodedata.normalize("NFKC", text))  # one for one, as in SQL
    return _UNSEEN.sub("", "".join(lower)).replace("\u03c2", "\u03c3")  # a final sigma is a sigma


def _with_places(text: str) -> tuple[str, Sequence[int], Sequence[int]]:
    """Return a text folded, and of each character of that where in the text it begins and ends."""
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
    """Yield where the characters stand that are folded together: a letter and its accents, the parts of a syllable."""
    start = 0
    for at in range(1, len(text) + 1):
        if at == len(text) or not _joins(text[start:at], text[at]):
            yield start, at
            start = at


def _joins(cluster: str, character: str) -> bool:
    if character.isascii():
        return False
    if unicodedata.combining(character):
        return True
    apart = unicodedata.normalize("NFKC", cluster) + unicodedata.normalize("NFKC", character)
    return unicodedata.normalize("NFKC", cluster + character) != apart


def _is_word(text: str, start: int, end: int) -> bool:
    begins = start == 0 or not _is_letter(text[start - 1]) or _UNPARTED.match(text[start])
    return bool(begins and (end == len(text) or not _is_letter(text[end]) or _UNPARTED.match(text[end - 1])))


def _is_letter(character: str) -> bool:
    return character.isalnum() or character == "_"


def _between_words(text: str, at: int, *, forward: bool) -> int:
    """Return the next place between words, if there is one near: behind `at`, or before it."""
    if at in {0, len(text)}:
        return at
    if forward:
        space = re.compile(r"\s+").search(text, at, min(len(text), at + _SLACK))
        return space.end() if space else at
    spaces = list(re.compile(r"\s").finditer(text, max(0, at - _SLACK), at))
    return spaces[-1].start() if spaces else at
