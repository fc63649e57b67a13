"""Repairs texts in requests that are no texts: exporters cut long attributes by bytes, or between half pairs.

What can't be read becomes U+FFFD. Only requests that can't be decoded as they are come here.
"""

import re
from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor

ALTERED = "A text that isn't valid Unicode was altered: U+FFFD stands for what can't be read"

_VARINT, _FIXED_64, _DELIMITED, _FIXED_32 = 0, 1, 2, 5
_SIZES = {_FIXED_64: 8, _FIXED_32: 4}
_MAX_DEPTH = 100  # as deep as protobuf's own reader goes
_MAX_FIELDS = 500_000  # which take about a second

#: Backslashes in pairs, whole pairs of surrogates, and halves.
_ESCAPE = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def json_text(body: bytes) -> bytes:
    """Return JSON in which every text is one."""
    text = body.decode(errors="replace").encode()
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found["half"] else found[0], text)


def message(kind: Descriptor, body: bytes) -> bytes:
    """Return a message of protobuf in which every text is UTF-8. Raises `ValueError` if it is no such message."""
    return _Repair().message(kind, body, 0)


@cache
def _texts_and_messages(kind: Descriptor) -> dict[int, Descriptor | None]:
    """Return the fields of a message that may need a repair, by number: None for a text."""
    return {
        field.number: None if field.type == FieldDescriptor.TYPE_STRING else field.message_type
        for field in kind.fields
        if field.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE}
    }


class _Repair:
    def __init__(self) -> None:
        self._fields = 0

    def message(self, kind: Descriptor, body: bytes, depth: int) -> bytes:
        known = _texts_and_messages(kind)
        found = bytearray()
        at = 0
        while at < len(body):
            self._fields += 1
            if self._fields > _MAX_FIELDS or depth > _MAX_DEPTH:
                raise ValueError("too much to be repaired")
            tag, value = _varint(body, at)
            if tag & 7 != _DELIMITED:
                at, begin = _end(tag & 7, body, value), at
                found += body[begin:at]
                continue
            size, begin = _varint(body, value)
            end = begin + size
            if end > len(body):
                raise ValueError("cut off")
            inner = body[begin:end]
            if tag >> 3 in known:
                of = known[tag >> 3]
                inner = inner.decode(errors="replace").encode() if of is None else self.message(of, inner, depth + 1)
            found += body[at:value] + written(len(inner)) + inner
            at = end
        return bytes(found)


def _end(wire_type: int, body: bytes, at: int) -> int:
    """Return the place behind a value that is no text and no message."""
    end = _varint(body, at)[1] if wire_type == _VARINT else at + _SIZES.get(wire_type, len(body) + 1)
    if end > len(body):
        raise ValueError("cut off, or of no known type")
    return end


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """Return a number, seven bits a byte, and the place behind it."""
    value = 0
    for n, byte in enumerate(body[at : at + 10]):
        value |= (byte & 0x7F) << 7 * n
        if byte < 0x80:  # noqa: PLR2004 - the last byte
            return value, at + n + 1
    raise ValueError("no number")


def written(number: int) -> bytes:
    """Return a number as protobuf writes it: seven bits a byte, the lowest first."""
    found = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])
