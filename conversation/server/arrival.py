"""Whether a request has arrived, as far as the event loop waits for it.

This only decides when a thread takes the request; what the bytes mean is decided by gunicorn's parser alone.
"""

import re
from typing import Literal

from conversation.server.strict_request import MAX_HEAD

#: `waits`: more has to come. `whole`: all is there. `served`: a thread waits for the rest. `ended`: nothing comes.
Arrival = Literal["waits", "whole", "served", "ended"]

MOST = 64 * 1024  # bytes that the event loop receives of one request: most single interactions

_TLS_HANDSHAKE = b"\x16\x03"
_DIGITS = 18  # of a length; whatever is longer is too long in any case
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)
_IN_PARTS = re.compile(rb"\r\n(?:transfer-encoding|expect):", re.IGNORECASE)


def of(data: bytes) -> Arrival:
    """Return how much of a request `data` is."""
    if data.startswith(_TLS_HANDSHAKE) or len(data) >= MOST:
        return "served"
    end = data.find(_END_OF_HEAD)
    if end < 0:
        return "waits" if len(data) <= MAX_HEAD else "served"  # the parser refuses it
    if end > MAX_HEAD or _IN_PARTS.search(data, 0, end + 2):
        return "served"  # chunks are the parser's, and the client may wait for `100 Continue`
    size = wanted(data)
    if size <= len(data):
        return "whole"
    return "waits" if size <= MOST else "served"


def wanted(data: bytes) -> int:
    """Return the bytes of a request whose head is there, as its Content-Length says; 0 if the head isn't there."""
    end = data.find(_END_OF_HEAD)
    if end < 0:
        return 0
    found = _LENGTH.search(data, 0, end + 2)
    digits = found[1].lstrip(b"0") if found else b""
    return end + len(_END_OF_HEAD) + (int(digits[:_DIGITS]) if digits else 0)
