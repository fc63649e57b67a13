"""Files inside messages, such as a phone's photo as base64: pages show their kind and size, and images on demand.

A file is a data URI anywhere in a text, or base64 under one of the names that providers give it. Its number counts the
files of an interaction, the prompt's first. Only raster images are served, recognised by their first bytes, and never
anything that a message merely points to.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from logging_store import operations as ops

_SHORTEST = 200  # characters of base64; shorter ones, such as icons and ids, stay as they are
_BASE64 = rf"[A-Za-z0-9+/_-]{{{_SHORTEST},}}={{0,2}}"
_DATA_URI = re.compile(
    r"data:(?P<type>[A-Za-z0-9.+-]{1,60}/[A-Za-z0-9.+-]{1,60})?(?:;[A-Za-z0-9=.+-]{1,60}){0,4}?;base64,"
    rf"(?P<data>{_BASE64})"
)
_CUT_DATA_URI = re.compile(
    r"data:(?P<type>[A-Za-z0-9.+-]{1,60}/[A-Za-z0-9.+-]{1,60})?(?:;[A-Za-z0-9=.+-]{1,60}){0,4}?;base64,[A-Za-z0-9+/_-]*=*"
)
_ALONE = re.compile(_BASE64)
#: Names under which providers send base64 without a data URI, and those that state its type.
_DATA_FIELDS = frozenset({"data", "b64_json", "result", "file_data", "image", "bytes", "blob"})
_TYPE_FIELDS = ("media_type", "mime_type", "mediaType", "mimeType", "contentType", "content_type")
_UNKNOWN_TYPE = "application/octet-stream"
#: How an image begins, as bytes; SVG isn't among them, since it may hold scripts.
_BEGINNINGS: dict[str, Callable[[bytes], bool]] = {
    "image/png": lambda start: start.startswith(b"\x89PNG\r\n\x1a\n"),
    "image/jpeg": lambda start: start.startswith(b"\xff\xd8\xff"),
    "image/gif": lambda start: start.startswith((b"GIF87a", b"GIF89a")),
    "image/webp": lambda start: start.startswith(b"RIFF") and start[8:12] == b"WEBP",
}
_START = 16  # bytes that tell an image
_UNITS = ("bytes", "kB", "MB")
_THOUSAND = 1000


@dataclass(frozen=True, slots=True)
class EmbeddedFile:
    """A file inside a message. `number`: its place in the interaction. `data`: base64."""

    number: int
    media_type: str
    data: str

    @property
    def description(self) -> str:
        """Its kind and size, such as "image/png, 3.7 MB"."""
        size, unit = float(len(self.data) * 3 // 4), 0
        while size >= _THOUSAND and unit < len(_UNITS) - 1:
            size, unit = size / _THOUSAND, unit + 1
        return f"{self.image_type or self.media_type}, {size:.{min(unit, 1)}f} {_UNITS[unit]}"

    @property
    def image_type(self) -> str | None:
        """The media type of an image that may be shown, by its first bytes; None for anything else."""
        start = _decoded(self.data[: _START * 4 // 3 + 3])[:_START]
        return next((kind for kind, begins in _BEGINNINGS.items() if begins(start)), None)

    def content(self) -> bytes:
        return _decoded(self.data)


class FileFinder:
    """Finds the files of one interaction, and puts their descriptions in their place."""

    def __init__(self) -> None:
        self.files: list[EmbeddedFile] = []

    def without_files(self, value: Any) -> Any:
        """Return a JSON value with a description in the place of each file."""
        match value:
            case str():
                return self._text(value)
            case list():
                return [self.without_files(item) for item in value]
            case dict():
                return {
                    name: self._field(value, item) if name in _DATA_FIELDS else self.without_files(item)
                    for name, item in value.items()
                }
        return value

    def _text(self, text: str) -> str:
        if ";base64," not in text:
            return text
        return _DATA_URI.sub(lambda found: self._add(found["type"] or _UNKNOWN_TYPE, found["data"]), text)

    def _field(self, siblings: Mapping[str, Any], value: Any) -> Any:
        if not isinstance(value, str) or not _ALONE.fullmatch(value):
            return self.without_files(value)
        stated = (siblings[name] for name in _TYPE_FIELDS if isinstance(siblings.get(name), str))
        return self._add(next(stated, None) or _UNKNOWN_TYPE, value)

    def _add(self, media_type: str, data: str) -> str:
        found = EmbeddedFile(len(self.files), media_type, data)
        self.files.append(found)
        return f"[{found.description}]"


def without_cut_files(excerpt: str) -> str:
    """Return the beginning of a text with the kind of each file in its place, which may be cut anywhere."""
    if ";base64," not in excerpt:
        return excerpt
    return _CUT_DATA_URI.sub(lambda found: f"[{found['type'] or _UNKNOWN_TYPE}]", excerpt)


def of_interaction(interaction: ops.Interaction) -> list[EmbeddedFile]:
    """Return the files of an interaction, prompt first."""
    finder = FileFinder()
    for content in (interaction["prompt"], interaction["response"]):
        finder.without_files(content)
    return finder.files


def _decoded(data: str) -> bytes:
    """Decode base64 in either alphabet, whose padding may be missing; empty if it is none."""
    text = data.rstrip("=").translate(_STANDARD)
    if len(text) % 4 == 1:  # a cut
        text = text[:-1]
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        return b""


_STANDARD = str.maketrans("-_", "+/")
