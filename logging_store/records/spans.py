"""The spans of a trace, as OpenTelemetry has them, and the calls of a model among them.

    repository.write_spans([
        Span("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7", name="chat small-1",
             kind="call", scope="opentelemetry.instrumentation.openai_v2", started_at=…, completed_at=…,
             response_id="chatcmpl-1", call=Call(prompt="Hi", response="Hello!", model="small-1")),
        Span("0af7651916cd43dd8448eb211c80319c", "00f067aa0ba902b7", name="POST /chat", kind="other",
             session="chat-42", user="ada", started_at=…, completed_at=…),
    ])  # [Receipt(receipt="created"), Receipt(receipt="created")]: a receipt per span, in order

Spans may come in any order, split over any calls, and again: the same rows result. So a caller hands over what it
decoded, and needs to know nothing of what came before:

- Give each span what stands on *it*; the store adds what it has from the spans above, or from elsewhere in its trace.
- A span of kind `call` has a `call`, every other span has none. A `call` without content is one, too: `Call()`.
- What log events say of a span is a `Span` of its own with the same trace and span id and `source="events"`, with
  `kind="call"` and a `call` if they are content of a call, and only `feedback` (kind None) if they are an evaluation.
  Make one such `Span` of all content events of a span that came in one request. It needs neither name nor times.
- Leave out spans that say nothing of a conversation (no call, agent, tool, session or user, and no such span below or
  above them in the request); keep the others: they link calls to sessions, and show what happened in a turn.
- Two spans of one call (two instrumentations) are joined by the store: by response id, also across traces, where
  scopes differ, the times overlap and the models agree; failures (`call.error`) by parent (one is the other's, or both
  have the same), scope and time. Where a mapper knows it otherwise, `same_call_as` names another one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self

from pydantic import model_validator

from logging_store.records.models import FeedbackInput, Interaction

SpanKind = Literal[
    "call", "agent", "workflow", "chain", "tool", "retriever", "embedding", "reranker", "guardrail", "other"
]
#: Who named a session: the caller of the library, or the library, which makes an id up for each run.
NamedBy = Literal["caller", "library"]


class Call(Interaction):
    """One call of a model, with the fields of an interaction. Its ids, session and participant derive from its span.

    `tags` and `metadata` are the call's own; `trace_id`, `span_id`, `session_id` and `interaction_id` are left out.
    """

    @model_validator(mode="after")
    def _check_has_content(self) -> Self:  # a call is one even if nothing is known of it
        return self


@dataclass(frozen=True, slots=True)
class Span:
    """What one span, or the log events of one span, say.

    `trace_id`: 32 lower-case hex digits. `span_id`, `parent_id`: 16. `kind`: None if only feedback on it is known.
    `session`, `user`: what stands on this very span, as keys or ids like those of `Session`. `named_by`: who named the
    session. `response_id`: the provider's id of the response. `feedback` is on the call, `session_feedback` on its
    session. `same_call_as`: the trace and span id of a span that is of the same call. `rank`: of the spans of one call,
    the one with the smallest gives the interaction its ids and has its say where they contradict each other, then the
    one that began first; a mapper may prefer those with content. It may only depend on the span itself.
    """

    trace_id: str
    span_id: str
    parent_id: str | None = None
    name: str | None = None
    kind: SpanKind | None = None
    scope: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    session: str | None = None
    named_by: NamedBy = "caller"
    user: str | None = None
    response_id: str | None = None
    same_call_as: tuple[str, str] | None = None
    rank: int = 0
    call: Call | None = None
    feedback: Sequence[FeedbackInput] = ()
    session_feedback: Sequence[FeedbackInput] = ()
    source: Literal["span", "events"] = "span"

    @property
    def times(self) -> Call:
        """The latest times that the span or its call says, which may be no later than those of any interaction."""
        call = self.call or _NO_CALL
        return Call.model_construct(
            started_at=max(filter(None, (self.started_at, call.started_at)), default=None),
            completed_at=max(filter(None, (self.completed_at, call.completed_at)), default=None),
        )


_NO_CALL = Call()
