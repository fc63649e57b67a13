"""A store whose operations are database functions.

The rules are in the functions (supabase/schemas); a subclass only knows how to call one. Calls with transient errors
are retried here, with jitter. That is safe even if the error came after the commit, since writes are idempotent.
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
from logging_store.operations import A, Operation, Q, ServerSettings
from logging_store.postgres.migrations import SCHEMA_VERSION
from logging_store.records.json_values import restore_numbers
from logging_store.store import Backlog

_RECEIPTS = {outcome: Receipt(receipt=outcome) for outcome in get_args(Outcome)}
_DURABILITY_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes")
_ATTEMPTS = 4  # enough for a deadlock or a restarted backend; during an outage the spool takes over


class FunctionStore(ABC):
    """Calls Turnlog's database functions.

    `deadline_s`: the most seconds of one operation, with all its attempts.
    """

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s

    @abstractmethod
    def _call(self, function: str, value: Mapping[str, Any], deadline: float) -> Any:
        """Call a function of the schema `turnlog` and return its jsonb result, parsed.

        `deadline`: a time of the monotonic clock, by which the call returns or raises `StoreError`.
        """

    def start(self) -> None:  # noqa: B027 - no subclass needs to
        """Do nothing: connections open with the first call."""

    def write(self, batch: Batch) -> BatchReceipts:
        return _receipts(batch, self._call_with_retries("write", batch.to_json()))

    def ask(self, operation: Operation[Q, A], project: str | None, query: Q) -> A:
        answer: A = self._call_with_retries(operation.name, operation.request(project, query, self.deadline_s))
        return restore_numbers(answer)

    def ping(self) -> ServerSettings:
        settings: ServerSettings = self._call("ping", {}, time.monotonic() + self.deadline_s)
        _require_durable(settings)
        return settings

    def backlog(self) -> Backlog:
        return Backlog()

    def examine(self, operation: Operation[Q, A], query: Q, seconds: float) -> A:
        """Run an operation on the database itself without retries: see conversation/doctor.

        `seconds`: the most time for the call; statements are limited to `deadline_s` as well.
        """
        answer: A = self._call(operation.name, query, time.monotonic() + seconds)
        return answer

    @abstractmethod
    def close(self) -> None: ...

    def _call_with_retries(self, function: str, value: Mapping[str, Any]) -> Any:
        """Call a function; retry transient errors until half of the deadline has passed."""
        started = time.monotonic()
        attempt = partial(self._call, function, value, started + self.deadline_s)
        try:
            return attempt()  # tenacity costs as much as the rest of the call's Python
        except StoreUnavailable as error:
            if not _is_transient(error):
                raise
            failed = [error]

        def attempt_again() -> Any:
            if failed:
                raise failed.pop()  # tenacity counts the first attempt, too
            return attempt()

        return Retrying(
            retry=retry_if_exception(_is_transient),
            stop=stop_after_attempt(_ATTEMPTS) | stop_after_delay(started + self.deadline_s / 2 - time.monotonic()),
            wait=wait_random_exponential(multiplier=0.05, max=1),
            reraise=True,
        )(attempt_again)


def _is_transient(error: BaseException) -> bool:
    """Return whether a retry may succeed at once; after a lock timeout it would only wait again."""
    return isinstance(error, StoreUnavailable) and not isinstance(error, StoreBusy)


def _receipts(batch: Batch, answer: dict[str, Any]) -> BatchReceipts:
    receipts = BatchReceipts(
        **{kind: _kind_receipts(answer.get(kind) or [], len(getattr(batch, kind))) for kind in KINDS}
    )
    if any(len(getattr(receipts, kind)) != len(getattr(batch, kind)) for kind in KINDS):
        raise Misconfigured("the store returned fewer receipts than records: its functions aren't Turnlog's")
    return receipts


def _kind_receipts(answered: list[dict[str, Any]] | Outcome, count: int) -> list[Receipt]:
    """Return the receipts of one kind, of which the store may return one outcome for all."""
    return [_RECEIPTS[answered]] * count if isinstance(answered, str) else [_receipt(each) for each in answered]


def _receipt(answered: dict[str, Any]) -> Receipt:
    # most only have an outcome; receipts are frozen, so they can be shared
    if len(answered) == 1:
        return _RECEIPTS[answered["receipt"]]
    if answered.get("fields") == ["erased_at"]:  # the fill rule's conflict on an interaction whose author was erased
        return Receipt(receipt="rejected", reason="erased")
    return Receipt.model_validate(restore_numbers(answered))


def _require_durable(settings: ServerSettings) -> None:
    """Raise `Misconfigured` for another schema version, or if the server may lose what it acknowledges."""
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
    for setting, value in settings.items():
        if setting in _DURABILITY_SETTINGS and value == "off":
            raise Misconfigured(f"the database runs with {setting} = off and may lose what it acknowledged: turn it on")
    if settings["transaction_isolation"] != "read committed":
        raise Misconfigured(
            "Turnlog's functions need transaction isolation 'read committed', this role or database defaults to "
            f"{settings['transaction_isolation']!r}: alter role … reset default_transaction_isolation"
        )
    if settings["read_only"]:
        raise StoreUnavailable("the database is read-only: a standby, or its disk is full")
