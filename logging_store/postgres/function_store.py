"""A store whose every operation is one database function.

The rules live in the functions (supabase/schemas), so a subclass only says how to call one. Calls that fail for a
reason that passes are made again here, with jitter: an error may arrive after the commit, and identity decides then.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Any, get_args

from tenacity import (
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from logging_store.batches import KINDS, Batch, BatchReceipts, Outcome, Receipt
from logging_store.errors import Misconfigured, StoreBusy, StoreUnavailable
from logging_store.operations import A, Operation, Q
from logging_store.postgres.migrations import SCHEMA_VERSION
from logging_store.records.json_values import restore_numbers
from logging_store.store import Backlog

_PLAIN = {outcome: Receipt(receipt=outcome) for outcome in get_args(Outcome)}
_ATTEMPTS = 4  # a deadlock or a restarted backend passes at once; an outage is the spool's matter, not ours


class FunctionStore(ABC):
    """Calls Turnlog's database functions.

    `deadline_s`: how long one operation may take, all its attempts together.
    """

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s

    @abstractmethod
    def _call(self, function: str, value: Mapping[str, Any], ends: float) -> Any:
        """Run an operation, a function of the schema `turnlog`; return its jsonb result, parsed.

        Raises `StoreError`, at the time `ends` (of the monotonic clock) at the latest.
        """

    def start(self) -> None:  # noqa: B027 - no subclass needs to
        """Do nothing: connections open with the first call."""

    def write(self, batch: Batch) -> BatchReceipts:
        return _receipts(batch, self._persist("write", batch.to_json()))

    def ask(self, operation: Operation[Q, A], project: str | None, query: Q) -> A:
        answer: A = self._persist(operation.name, operation.request(project, query, self.deadline_s))
        return restore_numbers(answer)

    def ping(self) -> dict[str, Any]:
        settings: dict[str, Any] = self._call("ping", {}, time.monotonic() + self.deadline_s)
        _require_trustworthy(settings)
        return settings

    def backlog(self) -> Backlog:
        return Backlog()

    def examine(self, operation: Operation[Q, A], query: Q, seconds: float) -> A:
        """Ask the database about itself, or mend it, once: see conversation/doctor.

        `seconds`: when to give up; no statement takes longer than `deadline_s`, either.
        """
        answer: A = self._call(operation.name, query, time.monotonic() + seconds)
        return answer

    @abstractmethod
    def close(self) -> None: ...

    def _persist(self, function: str, value: Mapping[str, Any]) -> Any:
        """Call a function, and again if it fails for a reason that passes."""
        begun = time.monotonic()
        attempt = partial(self._call, function, value, begun + self.deadline_s)
        try:
            return attempt()  # tenacity costs as much as the rest of the call's Python
        except StoreUnavailable as error:
            if not _passes(error):
                raise
            failed = [error]

        def attempt_again() -> Any:
            if failed:
                raise failed.pop()  # the first attempt counts
            return attempt()

        return Retrying(
            retry=retry_if_exception(_passes),
            stop=stop_after_attempt(_ATTEMPTS) | stop_after_delay(begun + self.deadline_s / 2 - time.monotonic()),
            wait=wait_random_exponential(multiplier=0.05, max=1),
            reraise=True,
        )(attempt_again)


def _passes(error: BaseException) -> bool:
    """Tell whether a failure may be gone in a moment: a lock that wasn't had in time isn't."""
    return isinstance(error, StoreUnavailable) and not isinstance(error, StoreBusy)


def _receipts(batch: Batch, answer: dict[str, Any]) -> BatchReceipts:
    receipts = BatchReceipts(**{kind: _of_kind(answer.get(kind) or [], len(getattr(batch, kind))) for kind in KINDS})
    if any(len(getattr(receipts, kind)) != len(getattr(batch, kind)) for kind in KINDS):
        raise Misconfigured("the store answered with fewer receipts than records: its functions are not ours")
    return receipts


def _of_kind(answered: list[dict[str, Any]] | Outcome, count: int) -> list[Receipt]:
    """Return the receipts of one kind: the store says one word where it is that of all."""
    return [_PLAIN[answered]] * count if isinstance(answered, str) else [_receipt(each) for each in answered]


def _receipt(answered: dict[str, Any]) -> Receipt:
    # most say one word; receipts are frozen, so those that say the same may be the same
    if len(answered) == 1:
        return _PLAIN[answered["receipt"]]
    if answered.get("fields") == ["erased_at"]:  # as the fill rule says of a turn that went with who said it
        return Receipt(receipt="rejected", reason="erased")
    return Receipt.model_validate(restore_numbers(answered))


def _require_trustworthy(settings: dict[str, Any]) -> None:
    """Raise `Misconfigured` unless an acknowledgement of this server means kept."""
    if settings["rows_hidden"]:
        raise Misconfigured(
            "row-level security hides the tables from this role: connect as their owner, or as service_role"
        )
    if settings["schema"] < SCHEMA_VERSION:
        raise Misconfigured(
            f"the database has schema {settings['schema']}, this service needs {SCHEMA_VERSION}: run `turnlog migrate`"
        )
    if settings["schema"] > SCHEMA_VERSION:
        raise Misconfigured(
            f"the database has schema {settings['schema']}, this version of Turnlog knows {SCHEMA_VERSION}: "
            "run the newer version"
        )
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        if settings[setting] == "off":
            raise Misconfigured(f"the database runs with {setting} = off and may lose what it acknowledged: turn it on")
    if settings["transaction_isolation"] != "read committed":
        raise Misconfigured(
            "Turnlog's functions need transaction isolation 'read committed', this role or database defaults to "
            f"{settings['transaction_isolation']!r}: alter role … reset default_transaction_isolation"
        )
    if settings["read_only"]:
        raise StoreUnavailable("the database is read-only: a standby, or its disk is full")
