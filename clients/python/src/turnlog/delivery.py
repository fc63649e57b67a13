"""Delivery: records become calls, and answers become outcomes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

from turnlog.receipts import Outcome
from turnlog.spool import Line
from turnlog.transport import Answer, Transport

_OK = frozenset({200, 201, 202, 207})
#: Statuses that concern the call and not the record: a key that is refused, an address that isn't Turnlog's.
_OF_THE_CALL = frozenset({401, 403, 404, 405, 407})
_LATER = frozenset({408, 425, 429})
#: Fields without which a record would say something else.
_ESSENTIAL = frozenset({"session_id", "interaction_id", "key", "prompt", "response", "messages", "value", "name"})

_STAMPED = frozenset({"started_at", "completed_at", "latency_ms", "time_to_first_token_ms"})

Settle = Callable[[Line, Outcome], None]


class TryLaterError(Exception):
    """The service can't take records now. `pause`: seconds that it asked for. `blocked`: only somebody can help."""

    def __init__(self, message: str, pause: float | None = None, *, blocked: bool = False) -> None:
        super().__init__(message)
        self.pause, self.blocked = pause, blocked


class _RefusedError(Exception):
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def deliver(transport: Transport, lines: Iterable[Line], settle: Settle) -> None:
    """Send records and settle each. Raises `TryLaterError` and `UnreachableError`.

    What isn't settled then is to be sent again.
    """
    # lists of messages are compared with what their session has, so only they need their place in the order
    for is_list, group in groupby(lines, lambda line: line.kind == "m"):
        if is_list:
            for line in group:
                _send_one(transport, line, settle)
        else:
            _send_run(transport, list(group), settle)


def _send_run(transport: Transport, lines: Sequence[Line], settle: Settle) -> None:
    by_rule: dict[str, list[Line]] = {}
    for line in lines:
        if line.kind == "s":
            _send_one(transport, line, settle)
        elif line.kind == "i":
            by_rule.setdefault(line.target.replace("~", "-"), []).append(line)
    for rule, batch in by_rule.items():
        _send_batch(transport, rule, batch, settle)
    for line in lines:
        if line.kind == "f":
            _send_one(transport, line, settle)


def _post(transport: Transport, path: str, body: bytes) -> dict[str, Any]:
    answer = transport.post(path, body)
    if answer.status in _OK and isinstance(answer.body, dict):
        return answer.body
    problem = answer.body if isinstance(answer.body, dict) else {}
    said = f"The service answered {answer.status} {problem.get('code', '')}".rstrip()
    detail = f"{said}: {problem['detail']}" if problem.get("detail") else said
    if answer.status in _LATER or answer.status >= 500:  # noqa: PLR2004
        raise TryLaterError(detail, answer.retry_after)
    if answer.status < 400 or answer.status in _OF_THE_CALL:  # noqa: PLR2004 - a page or a redirect stores nothing
        raise TryLaterError(detail, answer.retry_after, blocked=True)
    raise _RefusedError(answer)


def _send_batch(transport: Transport, rule: str, lines: Sequence[Line], settle: Settle) -> None:
    of_conflicts = b"" if rule == "-" else b',"on_conflict":%s' % json.dumps(rule).encode()
    body = b'{"interactions":[%s]%s}' % (b",".join(line.payload for line in lines), of_conflicts)
    try:
        receipts = _post(transport, "/v1/interactions/batch", body).get("receipts")
    except _RefusedError as refused:
        if len(lines) == 1:
            settle(lines[0], _refusal(refused.answer))
            return
        middle = len(lines) // 2  # to find the one that the service can't take
        _send_batch(transport, rule, lines[:middle], settle)
        _send_batch(transport, rule, lines[middle:], settle)
        return
    if not isinstance(receipts, list) or len(receipts) != len(lines):
        raise TryLaterError("The service answered without receipts", blocked=True)
    for line, receipt in zip(lines, receipts, strict=True):
        rest, dropped = _without_refused(line, receipt)
        if rest is None:
            settle(line, _outcome(receipt))
            continue
        _send_batch(
            transport,
            rule,
            [line._replace(payload=rest)],
            lambda _, outcome, line=line, dropped=dropped: settle(  # type: ignore[misc]
                line, outcome._replace(dropped=dropped + outcome.dropped)
            ),
        )


def _send_one(transport: Transport, line: Line, settle: Settle) -> None:
    path = {"s": "/v1/sessions", "f": "/v1/feedback"}.get(line.kind, f"/v1/sessions/{line.target}/messages")
    dropped: tuple[str, ...] = ()
    payload = line.payload
    while True:
        try:
            body = _post(transport, path, payload)
        except _RefusedError as refused:
            rest, more = _without_refused(line._replace(payload=payload), refused.answer.body)
            if rest is None:
                settle(line, _refusal(refused.answer))
                return
            payload, dropped = rest, dropped + more
            continue
        receipts = body.get("receipts") if line.kind == "m" else [body]
        if not isinstance(receipts, list) or not all(isinstance(each, dict) and "receipt" in each for each in receipts):
            raise TryLaterError("The service answered without a receipt", blocked=True)
        settle(line, _worst(receipts, body)._replace(dropped=dropped))
        return


def _without_refused(line: Line, problem: Any) -> tuple[bytes | None, tuple[str, ...]]:
    """Return a record without the fields that a refusal names; None if it would say something else then.

    Of what contradicts, only times that this client measured are left out: they differ if a program tries again.
    """
    if not isinstance(problem, dict):
        return None, ()
    if problem.get("receipt") == "rejected" and problem.get("reason") != "invalid":
        return None, ()
    is_conflict = problem.get("receipt") == "conflict"
    if (is_conflict and line.target != "~") or problem.get("receipt") not in {None, "conflict", "rejected"}:
        return None, ()
    paths = [str(each.get("path", "")) for each in problem.get("fields", ()) if isinstance(each, dict)]
    names = [path.removeprefix("$").partition("]." if path.startswith("$.interactions[") else ".")[2] for path in paths]
    names = list(dict.fromkeys(name.partition(".")[0].partition("[")[0] for name in names))
    record = json.loads(line.payload)
    if is_conflict:
        names = [name for name in names if name in _STAMPED]
    if not names or not all(name in record and name not in _ESSENTIAL for name in names):
        return None, ()
    rest = {name: value for name, value in record.items() if name not in names}
    return json.dumps(rest, separators=(",", ":")).encode(), tuple(names)


def _outcome(receipt: dict[str, Any]) -> Outcome:
    fields = tuple(str(each["path"]) if isinstance(each, dict) else str(each) for each in receipt.get("fields", ()))
    return Outcome(str(receipt["receipt"]), fields, receipt.get("reason"), (), receipt)


def _refusal(answer: Answer) -> Outcome:
    problem = answer.body if isinstance(answer.body, dict) else {}
    state = "conflict" if problem.get("receipt") == "conflict" else "rejected"
    reason = problem.get("reason") or problem.get("code") or f"status {answer.status}"
    return _outcome({"fields": [], **problem, "receipt": state, "reason": reason})


_ORDER = ("duplicate", "filled", "revised", "created", "spooled", "conflict", "rejected")


def _worst(receipts: Sequence[dict[str, Any]], body: dict[str, Any]) -> Outcome:
    """Return one outcome for a call with several receipts: a refusal if there is one, else the most that was done."""
    if len(receipts) == 1:
        return _outcome(receipts[0])
    most = max(receipts, key=lambda each: _ORDER.index(each["receipt"]), default={"receipt": "duplicate"})
    return _outcome(most)._replace(answer=body)
