"""Hands the spans of a request to the log, which finds the session of each call, whatever comes first.

A call is named by its trace and its span, so that what is sent again is a duplicate.
"""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from conversation.api import requests
from conversation.otlp import joining
from conversation.otlp.joining import Id, Parents
from conversation.otlp.spans import CALLER, Kind, MappedSpan, ModelCall, Opinion, note
from conversation.turns.message import to_content
from conversation.turns.roles import ASSISTANT, USER
from logging_store.batches import Receipt
from logging_store.records.models import FeedbackInput
from logging_store.records.spans import Call, Span, SpanKind
from logging_store.records.values import MAX_NAME
from logging_store.repository import ConversationRepository

_log = logging.getLogger(__name__)

_MOST_NAMES = 5  # of fields that a reason lists
_MOST_SPANS = 1000  # of one transaction
_FACTS = (
    "model", "provider", "error", "finish_reason", "latency_ms", "time_to_first_token_ms", "input_tokens",
    "output_tokens", "cached_input_tokens", "cache_write_tokens", "reasoning_tokens", "cost_usd",
)  # fmt: skip
#: Fields without which an interaction is still the call's, if one of them can't be stored.
_DISPENSABLE = frozenset({*_FACTS, "tags", "metadata", "context"} - {"error"})
_KINDS: dict[Kind, SpanKind] = {
    "call": "call",
    "agent": "agent",
    "workflow": "workflow",
    "step": "chain",
    "tool": "tool",
    "retriever": "retriever",
    "embedding": "embedding",
    "guardrail": "guardrail",
}


@dataclass(slots=True)
class Outcome:
    """What became of a request. `rejected`: spans whose call can't be stored; `reasons`: the first of why."""

    rejected: int = 0
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Feedback:
    of_call: list[FeedbackInput] = field(default_factory=list)
    of_session: list[FeedbackInput] = field(default_factory=list)


def place(repository: ConversationRepository, mapped: Sequence[MappedSpan], parents: Parents) -> Outcome:
    """Write what a request's spans say. Raises `StoreUnavailable` if it can neither be stored nor spooled."""
    outcome = Outcome()
    spans = list(records(mapped, parents, outcome))
    repository.ledger.reject(outcome.rejected)
    for begin in range(0, len(spans), _MOST_SPANS):
        for receipt in repository.write_spans(spans[begin : begin + _MOST_SPANS]):
            _note(receipt, outcome)
    return outcome


def records(mapped: Sequence[MappedSpan], parents: Parents, outcome: Outcome) -> Iterator[Span]:
    """Yield the spans that are stored, those between them included. Notes in `outcome` which can't be."""
    twins: dict[Id, Id] = {}  # a span of a call -> another one of the same call
    for spans in joining.join(mapped, parents):
        twins |= dict.fromkeys((each.id for each in spans), spans[0].id)
    calls = twins.keys()
    mapped = list(_without_echoes(mapped))
    feedback = _feedback(mapped, calls, parents, outcome)
    for each in mapped:
        call = _call(each, outcome) if each.call is not None and each.id in calls else None
        if each.call is not None and each.id in calls and call is None:
            continue  # noted
        rated = feedback.pop(each.id, _Feedback())
        if not each.is_record:
            yield _span(each, call, rated, twins.get(each.id))
        elif call or rated.of_call or rated.of_session or each.session or each.user:
            yield _record(each, call, rated)
    yield from _between(mapped, parents)


def _without_echoes(mapped: Sequence[MappedSpan]) -> Iterator[MappedSpan]:
    """Yield spans without those of web requests and the like that only say whose they are, as the span above them does.

    Applications put the session on all their spans. The topmost of them is kept: a call may come in another request.
    """
    by_id = {each.id: each for each in mapped}
    traces = {each.trace_id for each in mapped if _says_more(each)}
    for each in mapped:
        above = by_id.get((each.trace_id, each.parent_id)) if each.parent_id else None
        is_echo = above is not None and (each.session, each.session_rank, each.user) == (
            above.session,
            above.session_rank,
            above.user,
        )
        if not is_echo or each.trace_id in traces:
            yield each


def _says_more(span: MappedSpan) -> bool:
    """Return whether a span says more than whose it is."""
    return span.kind != "span" or span.call is not None or bool(span.feedback) or span.is_record


def _span(mapped: MappedSpan, call: Call | None, rated: _Feedback, twin: Id | None) -> Span:
    kind: SpanKind = "call" if call else _KINDS.get(mapped.kind, "other")
    if kind == "call" and call is None:  # it sums up other calls
        kind = "chain"
    return Span(
        mapped.trace_id,
        mapped.span_id,
        mapped.parent_id,
        mapped.name,
        kind,
        mapped.scope,
        mapped.started_at,
        mapped.completed_at,
        mapped.session,
        "caller" if mapped.session_rank == CALLER else "library",
        mapped.user,
        mapped.response_id if call else None,
        None if twin == mapped.id else twin,
        joining.rank(mapped),
        call,
        rated.of_call,
        rated.of_session,
    )


def _record(mapped: MappedSpan, call: Call | None, rated: _Feedback) -> Span:
    return Span(
        mapped.trace_id,
        mapped.span_id,
        kind="call" if call else None,
        session=mapped.session,
        named_by="caller" if mapped.session_rank == CALLER else "library",
        user=mapped.user,
        response_id=mapped.response_id if call else None,
        rank=joining.rank(mapped),
        call=call,
        feedback=rated.of_call,
        session_feedback=rated.of_session,
        source="events",
    )


def _between(mapped: Sequence[MappedSpan], parents: Parents) -> Iterator[Span]:
    """Yield the spans of the request that say nothing themselves, but lead from those that do to those above."""
    known = {each.id for each in mapped}
    for each in mapped:
        for above in joining.ancestors(each.id, parents):
            if above in known:
                break
            if above not in parents:
                break  # it comes in another request, if at all
            known.add(above)
            yield Span(*above, parents[above], kind="other")


def _call(span: MappedSpan, outcome: Outcome) -> Call | None:
    """Return the call of a span; None, and a note, if it can't be stored."""
    assert span.call is not None  # noqa: S101 - the caller has looked
    try:
        return _validated(_fields(span.call, span), outcome)
    except requests.InvalidBody as error:
        reason = _sentence(error)
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        _log.warning("a call can't be written", exc_info=True)
        reason = f"It can't be written ({type(error).__name__})"
    outcome.rejected += 1
    note(outcome.reasons, f"{span.name[:MAX_NAME]}: {reason}")
    return None


def _fields(call: ModelCall, span: MappedSpan) -> dict[str, Any]:
    """Return the fields of an interaction that a call states."""
    stated = {
        "prompt": to_content(call.prompt, USER),
        "context": [message.to_item() for message in call.context] or None,
        "response": to_content(call.response, ASSISTANT),
        **{name: getattr(call, name) for name in _FACTS},
        "status": _status(call, span),
        "tags": list(span.tags) or None,
        "metadata": {**span.metadata, **({"response_id": span.response_id} if span.response_id else {})} or None,
    }
    return {name: value for name, value in stated.items() if value is not None}


def _status(call: ModelCall, span: MappedSpan) -> str | None:
    if call.error is not None:
        return "failed"
    return None if span.is_record and not call.response else "completed"


def _validated(fields: Mapping[str, Any], outcome: Outcome) -> Call:
    """Return a call, without the facts that can't be stored: these are noted."""
    try:
        return requests.validate(Call, dict(fields))
    except requests.InvalidBody as error:
        wrong = {name for name in fields if any(_is_about(each["path"], name) for each in error.fields)}
        if not wrong or error.is_cut or not wrong <= _DISPENSABLE:
            raise
        note(outcome.reasons, f"Not stored of a span: {_sentence(error)}")
        return requests.validate(Call, {name: value for name, value in fields.items() if name not in wrong})


def _is_about(path: str, name: str) -> bool:
    return path == f"$.{name}" or path.startswith((f"$.{name}.", f"$.{name}["))


def _sentence(error: requests.InvalidBody) -> str:
    first = error.fields[0] if error.fields else {"path": "$", "detail": "It can't be stored"}
    return f"{first['path'].removeprefix('$.')}: {first['detail']}"


def _feedback(
    mapped: Sequence[MappedSpan], calls: Collection[Id], parents: Parents, outcome: Outcome
) -> dict[Id, _Feedback]:
    """Return the opinions of a request by the span that they are about: the call that says it, or one above."""
    known = {each.id for each in mapped}
    found: dict[Id, _Feedback] = {}
    for span in mapped:
        if not span.feedback:
            continue
        line = [span.id, *joining.ancestors(span.id, parents)]
        about = next((at for at in line if at in calls and at in known), span.id)
        rated = found.setdefault(about, _Feedback())
        for opinion in span.feedback:
            try:
                (rated.of_session if opinion.is_of_session else rated.of_call).append(_opinion(opinion))
            except requests.InvalidBody as error:
                note(outcome.reasons, f"Not stored of {opinion.name[:MAX_NAME]}: {_sentence(error)}")
    return found


def _opinion(opinion: Opinion) -> FeedbackInput:
    stated = {
        "name": opinion.name,
        "value": opinion.value,
        "comment": opinion.comment,
        "author": opinion.author,
    }
    return requests.validate(FeedbackInput, {name: value for name, value in stated.items() if value is not None})


def _note(receipt: Receipt, outcome: Outcome) -> None:
    """Note what the store answered. What contradicts a stored fact isn't rejected: the fact stays as it was."""
    if receipt.receipt == "rejected":
        outcome.rejected += 1
        note(outcome.reasons, receipt.reason or "The store refused the span")
    elif receipt.receipt == "conflict" or receipt.differs:
        names = receipt.differs or receipt.fields
        note(outcome.reasons, f"Another value is stored already: {', '.join(names[:_MOST_NAMES])}")
