"""Spans and log records as they came, whatever encoding they came in, and what they become."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from conversation.turns.message import Message

Attributes = Mapping[str, Any]
Kind = Literal[
    "call", "agent", "workflow", "step", "tool", "retriever", "embedding", "prompt", "evaluator", "guardrail", "span"
]
#: How well a session's name is known: stated by the caller, or made by a library.
CALLER, LIBRARY = 2, 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NS_PER_US = 1000
_NS_PER_MS = 1_000_000
#: Spans and log records of one request that say something of a conversation.
MAX_SPANS = 10_000
_MAX_NS = 2**63  # nanoseconds; a later time is none


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a span. `time`: nanoseconds since 1970; 0 if it has none."""

    name: str
    time: int
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Span:
    """A span. Ids are lower hex; times nanoseconds since 1970, 0 if it has none; attributes values of JSON."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    scope: str
    start: int
    end: int
    attributes: Attributes
    events: Sequence[Event] = ()
    is_error: bool = False
    status_message: str = ""

    @property
    def latency_ms(self) -> float | None:
        """How long it took; None if its times don't say."""
        if not self.start or self.end < self.start:
            return None
        return (self.end - self.start) / _NS_PER_MS

    def ms_until(self, time: int) -> float | None:
        """Return the milliseconds from its start to a time; None if its times don't say."""
        return (time - self.start) / _NS_PER_MS if self.start and time >= self.start else None


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A log record that belongs to a span. `time`: nanoseconds since 1970; 0 if it has none."""

    trace_id: str
    span_id: str
    name: str
    scope: str
    time: int
    attributes: Attributes
    body: Any = None


@dataclass(slots=True)
class Decoded:
    """A request's spans or log records that say something of a conversation.

    `parents`: the parent of every span of the request, also of those that say nothing. `rejected`: how many were
    invalid, and `reasons` the first of why. `dropped`: how many have nothing to do with conversations.
    """

    spans: list[Span] = field(default_factory=list)
    records: list[LogRecord] = field(default_factory=list)
    parents: dict[tuple[str, str], str | None] = field(default_factory=dict)
    rejected: int = 0
    reasons: list[str] = field(default_factory=list)
    dropped: int = 0

    def reject(self, reason: str, count: int = 1) -> None:
        self.rejected += count
        note(self.reasons, reason)

    def has_room(self) -> bool:
        """Return whether another span or record is taken; else note it as rejected."""
        if len(self.spans) + len(self.records) < MAX_SPANS:
            return True
        self.reject(f"A request may have {MAX_SPANS:,} spans or log records that say something of a conversation")
        return False


_MOST_REASONS = 5


def note(reasons: list[str], reason: str) -> None:
    """Add a reason unless it is there, or there are enough."""
    if len(reasons) < _MOST_REASONS and reason not in reasons:
        reasons.append(reason)


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call of a model. `context`: what was sent before the prompt."""

    context: Sequence[Message] = ()
    prompt: Sequence[Message] = ()
    response: Sequence[Message] = ()
    model: str | None = None
    provider: str | None = None
    error: str | None = None
    finish_reason: str | None = None
    latency_ms: float | None = None
    time_to_first_token_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Opinion:
    """An evaluation, an annotation or a score of a call. `is_of_session`: of its session instead."""

    name: str
    value: float | str | bool | None
    comment: str | None = None
    author: str | None = None
    is_of_session: bool = False


@dataclass(frozen=True, slots=True)
class MappedSpan:
    """What a span says of a conversation, in one form for all dialects.

    `session_rank`: `CALLER` or `LIBRARY`, 0 without a session. `is_record`: it came as a log record, so that neither
    its parent nor its times are known.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: Kind
    scope: str
    started_at: datetime | None = None
    completed_at: datetime | None = None
    session: str | None = None
    session_rank: int = 0
    user: str | None = None
    tags: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    response_id: str | None = None
    call: ModelCall | None = None
    feedback: Sequence[Opinion] = ()
    is_record: bool = False

    @property
    def id(self) -> tuple[str, str]:
        return self.trace_id, self.span_id


def to_time(nanoseconds: int) -> datetime | None:
    """Return a time; None for 0 and for times that no clock has."""
    if not 0 < nanoseconds < _MAX_NS:
        return None
    return _EPOCH + timedelta(microseconds=nanoseconds // _NS_PER_US)
