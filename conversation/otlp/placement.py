"""Writes the calls of a request as interactions of their sessions, with the feedback on them.

An interaction is named by the trace and the span that saw the call, so that what is sent again is a duplicate.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from conversation.api import requests
from conversation.otlp import joining
from conversation.otlp.joining import Id, JoinedCall, Parents
from conversation.otlp.sessions import Sessions
from conversation.otlp.spans import MappedSpan, ModelCall, Opinion, note
from conversation.turns.message import to_content
from conversation.turns.roles import ASSISTANT, USER
from logging_store.records.models import Feedback, LoggedInteraction, Record, Session
from logging_store.records.values import MAX_NAME
from logging_store.repository import ConversationRepository, WriteResult

_MOST_NAMES = 5  # of fields that a reason lists
_MOST_RECORDS = 1000  # of one transaction
_FACTS = (
    "model", "provider", "error", "finish_reason", "latency_ms", "time_to_first_token_ms", "input_tokens",
    "output_tokens", "cached_input_tokens", "cache_write_tokens", "reasoning_tokens", "cost_usd",
)  # fmt: skip
#: Fields without which an interaction is still the call's, if one of them can't be stored.
_DISPENSABLE = frozenset({*_FACTS, "tags", "metadata", "started_at", "completed_at", "context"} - {"error"})


@dataclass(slots=True)
class Outcome:
    """What became of a request. `rejected`: spans whose interaction can't be stored; `reasons`: the first of why."""

    calls: int = 0
    rejected: int = 0
    reasons: list[str] = field(default_factory=list)


class Placed(NamedTuple):
    """An interaction before it is written: its fields by name."""

    joined: JoinedCall
    session: str
    user: str | None
    fields: dict[str, Any]

    @property
    def name(self) -> str:
        return name_of(self.joined.span)


def name_of(span: MappedSpan) -> str:
    """Return the name of the interaction of a span."""
    return f"{span.trace_id}-{span.span_id}"


def place(repository: ConversationRepository, mapped: Sequence[MappedSpan], parents: Parents) -> Outcome:
    """Write what a request's spans say. Raises `StoreUnavailable` if it can neither be stored nor spooled."""
    placed = interactions(mapped, parents)
    outcome = Outcome(calls=len(placed))
    users = _users(placed)
    sessions = [Session(session_id=session, user_id=user) for session, user in users.items()]
    records = [*sessions, *_logged(placed, outcome), *_feedback(mapped, placed, parents, outcome)]
    results = _write(repository, records)
    others = {
        session.session_id
        for session, result in zip(sessions, results, strict=False)
        if result.receipt.receipt == "conflict" and "user_id" in result.receipt.fields
    }
    for record, result in zip(records[len(sessions) :], results[len(sessions) :], strict=True):
        _note(record, result, outcome)
    logged = {record.interaction_id for record in records if isinstance(record, LoggedInteraction)}
    written = [each for each in placed if each.name in logged]
    _write(repository, list(_participants(written, users, others)))
    repository.ledger.reject(outcome.rejected)
    return outcome


def _write(repository: ConversationRepository, records: Sequence[Record]) -> list[WriteResult]:
    return [
        result
        for begin in range(0, len(records), _MOST_RECORDS)
        for result in repository.write(records[begin : begin + _MOST_RECORDS])
    ]


def _participants(
    placed: Iterable[Placed], users: Mapping[str, str], others: Container[str | None]
) -> Iterator[LoggedInteraction]:
    """Yield the users of calls that aren't their session's user. `others`: sessions that are another user's."""
    for each in placed:
        if each.user is not None and (each.session in others or users[each.session] != each.user):
            yield LoggedInteraction(
                session_id=each.session, interaction_id=each.name, participant=each.user, on_conflict="fill"
            )


def interactions(mapped: Sequence[MappedSpan], parents: Parents) -> list[Placed]:
    """Return the interactions of a request's spans, each with its session."""
    sessions = Sessions(mapped, parents)
    placed = []
    for joined in joining.join(mapped, parents):
        owner = sessions.owner(joined.spans)
        placed.append(Placed(joined, owner.session, owner.user, _fields(joined)))
    return placed


def _fields(joined: JoinedCall) -> dict[str, Any]:
    """Return the fields of an interaction that its call states."""
    call, span = joined.call, joined.span
    stated = {
        "prompt": to_content(call.prompt, USER),
        "context": [message.to_item() for message in call.context] or None,
        "response": to_content(call.response, ASSISTANT),
        **{name: getattr(call, name) for name in _FACTS},
        "status": _status(call, span),
        **_times(span),
        "tags": list(span.tags) or None,
        "metadata": {**span.metadata, **_span_fields(span)},
    }
    return {name: value for name, value in stated.items() if value is not None}


def _times(span: MappedSpan) -> dict[str, str]:
    """Return when a call began and ended; a log record only says when it was written."""
    times = {"started_at": span.started_at, "completed_at": span.completed_at}
    return {} if span.is_record else {name: time.isoformat() for name, time in times.items() if time is not None}


def _span_fields(span: MappedSpan) -> dict[str, str]:
    """Return how an interaction says which span it is."""
    own = {"trace_id": span.trace_id, "span_id": span.span_id}
    if not span.is_record:  # its name is the record's
        own["span_name"] = span.name
    return own | ({"response_id": span.response_id} if span.response_id else {})


def _status(call: ModelCall, span: MappedSpan) -> str:
    if call.error is not None:
        return "failed"
    return "pending" if span.is_record and not call.response else "completed"


def _users(placed: Iterable[Placed]) -> dict[str, str]:
    """Return the users of the sessions: those of their first calls."""
    users: dict[str, str] = {}
    for each in sorted(placed, key=lambda each: each.fields.get("started_at", "")):
        if each.user is not None:
            users.setdefault(each.session, each.user)
    return users


def _logged(placed: Iterable[Placed], outcome: Outcome) -> Iterator[LoggedInteraction]:
    for each in placed:
        named = {"session_id": each.session, "interaction_id": each.name, "on_conflict": "fill"}
        try:
            yield _validated(each.fields | named, outcome)
        except requests.InvalidBody as error:
            outcome.rejected += 1
            note(outcome.reasons, f"{each.joined.span.name[:MAX_NAME]}: {_sentence(error)}")


def _validated(fields: Mapping[str, Any], outcome: Outcome) -> LoggedInteraction:
    """Return a record, without the facts that can't be stored: these are noted."""
    try:
        return requests.validate(LoggedInteraction, dict(fields))
    except requests.InvalidBody as error:
        wrong = {name for name in fields if any(_is_about(each["path"], name) for each in error.fields)}
        if not wrong or error.is_cut or not wrong <= _DISPENSABLE:
            raise
        note(outcome.reasons, f"Not stored of a span: {_sentence(error)}")
        kept = {name: value for name, value in fields.items() if name not in wrong}
        if "metadata" in wrong:
            own = ("trace_id", "span_id", "response_id")
            kept["metadata"] = {name: fields["metadata"][name] for name in own if name in fields["metadata"]}
        return requests.validate(LoggedInteraction, kept)


def _is_about(path: str, name: str) -> bool:
    return path == f"$.{name}" or path.startswith((f"$.{name}.", f"$.{name}["))


def _sentence(error: requests.InvalidBody) -> str:
    first = error.fields[0] if error.fields else {"path": "$", "detail": "It can't be stored"}
    return f"{first['path'].removeprefix('$.')}: {first['detail']}"


def _feedback(
    mapped: Iterable[MappedSpan], placed: Sequence[Placed], parents: Parents, outcome: Outcome
) -> Iterator[Feedback]:
    """Yield the opinions of a request, each on the call whose span says it, or that is above it."""
    by_span: dict[Id, Placed] = {span.id: each for each in placed for span in each.joined.spans}
    sessions = Sessions(list(mapped), parents)
    for span in mapped:
        if not span.feedback:
            continue
        line = [span.id, *joining.ancestors(span.id, parents)]
        about = next((by_span[at] for at in line if at in by_span), None)
        session = about.session if about else sessions.owner([span]).session
        interaction = about.name if about else name_of(span) if span.is_record else None
        for opinion in span.feedback:
            try:
                yield _opinion(opinion, session, None if opinion.is_of_session else interaction)
            except requests.InvalidBody as error:
                note(outcome.reasons, f"Not stored of {opinion.name[:MAX_NAME]}: {_sentence(error)}")


def _opinion(opinion: Opinion, session: str, interaction: str | None) -> Feedback:
    stated = {
        "session_id": session,
        "interaction_id": interaction,
        "name": opinion.name,
        "value": opinion.value,
        "comment": opinion.comment,
        "author": opinion.author,
    }
    return requests.validate(Feedback, {name: value for name, value in stated.items() if value is not None})


def _note(record: Record, result: WriteResult, outcome: Outcome) -> None:
    """Note what the store answered. What contradicts a stored fact isn't rejected: the fact stays as it was."""
    receipt = result.receipt
    if receipt.receipt == "rejected" and isinstance(record, LoggedInteraction):
        outcome.rejected += 1
    if receipt.receipt == "rejected":
        note(outcome.reasons, receipt.reason or "The store refused the record")
    elif receipt.receipt == "conflict" or receipt.differs:
        names = receipt.differs or receipt.fields
        note(outcome.reasons, f"Another value is stored already: {', '.join(names[:_MOST_NAMES])}")
