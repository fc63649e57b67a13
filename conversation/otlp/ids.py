"""Validates the ids of traces and spans."""

from conversation.otlp.spans import Decoded

TRACE_BYTES, SPAN_BYTES = 16, 8
_NO_TRACE, _NO_SPAN = "0" * 2 * TRACE_BYTES, "0" * 2 * SPAN_BYTES


def problem(trace_id: str, span_id: str) -> str | None:
    """Return what is wrong with a span's ids in lower hex; None if nothing is."""
    if len(trace_id) != 2 * TRACE_BYTES or trace_id == _NO_TRACE:
        return f"A trace id has {TRACE_BYTES} bytes, not all zero; in JSON as hex"
    if len(span_id) != 2 * SPAN_BYTES or span_id == _NO_SPAN:
        return f"A span id has {SPAN_BYTES} bytes, not all zero; in JSON as hex"
    return None


def parent(parent_id: str) -> str | None:
    """Return the id of a parent; None for a root, and for an id that none can have."""
    return parent_id if len(parent_id) == 2 * SPAN_BYTES and parent_id != _NO_SPAN else None


def accept(decoded: Decoded, trace_id: str, span_id: str) -> bool:
    """Return whether a span's ids are valid; else note it as rejected."""
    reason = problem(trace_id, span_id)
    if reason is not None:
        decoded.reject(reason)
    return reason is None
