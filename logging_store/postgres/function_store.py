"""A store whose operations are database functions.

The rules are in the functions (supabase/schemas); a subclass only knows how to call one. Calls with transient errors
are retried here, with jitter. That is safe even if the error came after the commit, since writes are idempotent. While
Supabase's API reconnects, reads wait for as long as their callers do; writes don't, since the spool takes them.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
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
from logging_store.errors import Misconfigured, StoreBusy, StoreReadOnly, StoreTimeout, StoreUnavailable
from logging_store.operations import A, Operation, OperationName, Q, ServerSettings
from logging_store.postgres.migrations import SCHEMA_VERSION
from logging_store.postgres.reconnection import until_reconnected
from logging_store.records.json_values import restore_numbers
from logging_store.shared_call import SharedCall
from logging_store.store import Backlog

_RECEIPTS = {outcome: Receipt(receipt=outcome) for outcome in get_args(Outcome)}
_DURABILITY_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes")
#: Connections that only writes may take: one for the groups of calls, one for the spool's deliveries.
_FOR_WRITES = 2
#: What calls that log need before they write.
_BEFORE_WRITES: frozenset[OperationName] = frozenset({"key", "origins"})
_ATTEMPTS = 4  # enough for a deadlock or a restarted backend; during an outage the spool takes over
_DRY_RUN_SHARE = 0.4  # of the deadline: what a dry run does is thrown away
_PATIENT_FACTOR = 6  # of the deadline, for writes that nobody waits for
_PING_S, _PING_SHARE = 2.0, 0.4  # the most time of a ping, and its most share of the deadline


def longest_ping(deadline_s: float) -> float:
    """Return the most seconds of a ping of a store with this deadline."""
    return min(_PING_S, deadline_s * _PING_SHARE)


class FunctionStore(ABC):
    """Calls Turnlog's database functions.

    `deadline_s`: the most seconds of one operation, with all its attempts. `pool_size`: the most connections, of which
    everything but writes may take all but two.
    """

    def __init__(self, deadline_s: float, pool_size: int) -> None:
        self.deadline_s = deadline_s
        #: How long reads wait for Supabase's API to reconnect to its database, if that is longer than the deadline.
        self.reconnect_s = 0.0
        self._shared_ping = SharedCall(self._ping)
        self._connections_for_reads = threading.BoundedSemaphore(max(1, pool_size - _FOR_WRITES))

    @abstractmethod
    def _call(self, function: str, value: Mapping[str, Any], deadline: float) -> Any:
        """Call a function of the schema `turnlog` and return its jsonb result, parsed.

        `deadline`: a time of the monotonic clock, by which the call returns or raises `StoreError`.
        """

    @abstractmethod
    def _call_apart(self, function: str, deadline: float) -> Any:
        """Call a function without arguments as `_call` does, on a connection that no other call uses."""

    def start(self) -> None:  # noqa: B027 - no subclass needs to
        """Do nothing: connections open with the first call."""

    def write(self, batch: Batch) -> BatchReceipts:
        seconds = self.deadline_s * (_DRY_RUN_SHARE if batch.dry_run else _PATIENT_FACTOR if batch.patient else 1)
        with self._read_turn() if batch.dry_run else nullcontext():
            deadline = time.monotonic() + seconds
            return _receipts(batch, self._call_with_retries("write", batch.to_json(), deadline))

    def ask(self, operation: Operation[Q, A], project: str | None, query: Q) -> A:
        request = operation.request(project, query, self.deadline_s)

        def call() -> A:
            with nullcontext() if operation.name in _BEFORE_WRITES else self._read_turn():
                deadline = min(give_up, time.monotonic() + self.deadline_s)
                answer: A = self._call_with_retries(operation.name, request, deadline)
                return answer

        give_up = time.monotonic() + max(self.deadline_s, self.reconnect_s)
        return restore_numbers(until_reconnected(call, give_up))

    def ping(self) -> ServerSettings:
        """Return the server's settings, from a connection of its own: slow calls can't make the store look away.

        One ping runs at a time and takes `longest_ping` at most; who asks meanwhile gets its answer.
        """
        return self._shared_ping()

    def backlog(self) -> Backlog:
        return Backlog()

    def examine(self, operation: Operation[Q, A], query: Q, seconds: float) -> A:
        """Run an operation on the database itself without retries: see conversation/doctor.

        `seconds`: the most time for the call.
        """
        answer: A = self._call(operation.name, query, time.monotonic() + seconds)
        return answer

    @abstractmethod
    def close(self) -> None: ...

    def _ping(self) -> ServerSettings:
        settings: ServerSettings = self._call_apart("ping", time.monotonic() + longest_ping(self.deadline_s))
        _require_durable(settings)
        return settings

    @contextmanager
    def _read_turn(self) -> Iterator[None]:
        """Take one of the connections that aren't kept for writes. Raises `StoreBusy` if none becomes free in time."""
        if not self._connections_for_reads.acquire(timeout=self.deadline_s / 2):
            raise StoreBusy("all connections for reads are in use")
        try:
            yield
        finally:
            self._connections_for_reads.release()

    def _call_with_retries(self, function: str, value: Mapping[str, Any], deadline: float) -> Any:
        """Call a function; retry transient errors until half of the time to the deadline has passed."""
        started = time.monotonic()
        attempt = partial(self._call, function, value, deadline)
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
            stop=stop_after_attempt(_ATTEMPTS) | stop_after_delay((started + deadline) / 2 - time.monotonic()),
            wait=wait_random_exponential(multiplier=0.05, max=1),
            reraise=True,
        )(attempt_again)


def _is_transient(error: BaseException) -> bool:
    """Return whether a retry may succeed at once; after a timeout it would only wait again."""
    return isinstance(error, StoreUnavailable) and not isinstance(error, StoreBusy | StoreTimeout)


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
    if answered.get("fields") == ["erased_at"]:  # the fill rule's conflict on an interaction that was erased
        return Receipt(receipt="rejected", reason="erased", fields=("interaction_id",))
    if answered.get("fields") == ["text_expired_at"]:  # the same for one whose texts expired
        return Receipt(receipt="rejected", reason="expired", fields=("interaction_id",))
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
    if "database_id" not in settings:
        raise Misconfigured("an earlier build made this schema: run `turnlog migrate --again`")
    if not settings["database_id"]:
        raise Misconfigured("this role may not read turnlog.migrations: run `turnlog doctor`")
    for setting, value in settings.items():
        if setting in _DURABILITY_SETTINGS and value == "off":
            raise Misconfigured(f"the database runs with {setting} = off and may lose what it acknowledged: turn it on")
    if settings["transaction_isolation"] != "read committed":
        raise Misconfigured(
            "Turnlog's functions need transaction isolation 'read committed', this role or database defaults to "
            f"{settings['transaction_isolation']!r}: alter role … reset default_transaction_isolation"
        )
    if settings["read_only"]:
        raise StoreReadOnly
