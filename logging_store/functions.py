"""A store whose every operation is one database function.

The rules live in the functions (supabase/migrations), so a subclass only says how to call one. Calls that fail for a
reason that passes are made again here, with jitter: an error may arrive after the commit, and identity decides then.
"""

import time
from abc import ABC, abstractmethod
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
from logging_store.migrations import SCHEMA_VERSION
from logging_store.store import Backlog

_PLAIN = {outcome: Receipt(receipt=outcome) for outcome in get_args(Outcome)}
_ATTEMPTS = 4  # a deadlock or a restarted backend passes at once; an outage is the spool's matter, not ours
_FORGOTTEN_AT_ONCE = 10_000  # rows of each kind: a second's work at most
_ERASED_OF_ONE_AT_ONCE = 20_000  # interactions of a session that nobody reaches any more
_COUNTED_AT_ONCE = 500  # sessions: however many a user has, a call is answered in time
_SEARCHED_AT_ONCE = 1_000_000  # interactions, and
_LOOKED_AT_FIRST = 300  # of those, before the index is asked
_SEARCH_S = 1.5  # about, whichever comes first: whoever searches is told how far it came
_NOTHING_HERE = {"spooled": 0, "dead_letters": 0, "unreadable_files": 0}  # of an erasure: a database has no spool
_ERASED_AT_ONCE = 2_000  # interactions: writers of their sessions wait meanwhile


class FunctionStore(ABC):
    """Calls Turnlog's database functions.

    `deadline_s`: how long one operation may take, all its attempts together.
    """

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s

    @abstractmethod
    def _call(self, function: str, argument: str, value: dict[str, Any], ends: float) -> Any:
        """Run a function that takes one jsonb argument; return its jsonb result, parsed.

        Raises `StoreError`, at the time `ends` (of the monotonic clock) at the latest.
        """

    def start(self) -> None:  # noqa: B027 - no subclass needs to
        """Do nothing: connections open with the first call."""

    def write(self, batch: Batch) -> BatchReceipts:
        # rows that nobody claims are spared the look at whose their sessions are
        function = "write_v2" if batch.is_claimed else "write_v1"
        if batch.late:
            function = "write_late"
        if not batch.feedback:
            return _receipts(batch, self._persist(function, "batch", batch.to_json()))
        return _receipts(batch, self._persist("write_v3", "batch", {**batch.to_json(), "late": batch.late}))

    def explain(self, batch: Batch) -> BatchReceipts:
        return _receipts(batch, self._persist("explain", "batch", batch.to_json()))

    def session(self, project: str, session_id: str) -> dict[str, Any] | None:
        session: dict[str, Any] | None = self._request("session", project, session_id)
        return session

    def sessions(self, project: str, query: dict[str, Any]) -> dict[str, Any]:
        function = "sessions_by_id" if query.get("by") == "id" else "sessions"
        page: dict[str, Any] = self._request(function, project, **query)
        return page

    def count_sessions(self, project: str, query: dict[str, Any]) -> dict[str, Any]:
        count: dict[str, Any] = self._request("count_sessions", project, **query)
        return count

    def recent(self, project: str, query: dict[str, Any]) -> dict[str, Any]:
        page: dict[str, Any] = self._request("recent", project, **query)
        return page

    def transcript(self, project: str, session_id: str, query: dict[str, Any]) -> dict[str, Any]:
        page: dict[str, Any] = self._request("transcript", project, session_id, **query)
        return page

    def outline(self, project: str, session_id: str, query: dict[str, Any]) -> dict[str, Any]:
        outline: dict[str, Any] = self._request("outline", project, session_id, **query)
        return outline

    def search(self, project: str, query: dict[str, Any]) -> dict[str, Any]:
        ms = min(_SEARCH_S, self.deadline_s / 3) * 1000
        bounded = {"rows": _SEARCHED_AT_ONCE, "ms": ms, "first": _LOOKED_AT_FIRST, **query}
        page: dict[str, Any] = self._request("search", project, **bounded)
        return page

    def gaps(self, project: str, session_id: str | None, query: dict[str, Any]) -> dict[str, Any]:
        page: dict[str, Any] = self._request("gaps", project, session_id, **query)
        return page

    def folder(self, project: str, folder_id: str, query: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self._request("folder", project, folder_id=folder_id, **query)
        return found

    def folders(self, project: str, query: dict[str, Any]) -> dict[str, Any]:
        page: dict[str, Any] = self._request("folders", project, **query)
        return page

    def participants(self, project: str, session_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._request("participants", project, session_id)
        return found

    def feedback(self, project: str, session_id: str | None, query: dict[str, Any]) -> dict[str, Any]:
        page: dict[str, Any] = self._request("feedback", project, session_id, **query)
        return page

    def edit(self, project: str, session_id: str, changes: dict[str, Any]) -> dict[str, Any] | None:
        session: dict[str, Any] | None = self._request("edit", project, session_id, changes=changes)
        return session

    def erase(self, project: str, session_id: str, query: dict[str, Any] | None = None) -> dict[str, Any] | None:
        request = {"most": _ERASED_OF_ONE_AT_ONCE, **(query or {})}
        report: dict[str, Any] | None = self._request("erase", project, session_id, **request)
        while report and report["left"]:
            step = self._request("erase", project, session_id, **request)
            report = step | {name: report[name] + step[name] for name in ("interactions", "participants", "feedback")}
        return report and report | _NOTHING_HERE

    def erase_user(self, project: str, user_id: str, query: dict[str, Any]) -> dict[str, Any]:
        request = {"user_id": user_id, "most": _ERASED_AT_ONCE, "limit": _COUNTED_AT_ONCE, **query}
        report: dict[str, Any] = self._request("erase_user", project, **request)
        return report | _NOTHING_HERE

    def participations(self, project: str, user_id: str, query: dict[str, Any]) -> dict[str, Any]:
        page: dict[str, Any] = self._request("participations", project, user_id=user_id, **query)
        return page

    def overview(self, project: str, query: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self._request("overview", project, **query)
        return found

    def report_key(self, project: str) -> str:
        key: str = self._request("report_key", project)["key"]
        return key

    def forget(self, project: str) -> dict[str, Any]:
        report: dict[str, Any] = self._request("forget_project", project, limit=_FORGOTTEN_AT_ONCE)
        return report

    def key(self, digest: str) -> dict[str, Any] | None:
        key: dict[str, Any] | None = self._persist("key", "request", {"digest": digest})
        return key

    def origins(self) -> list[str]:
        origins: list[str] = self._persist("origins", "request", {})["origins"]
        return origins

    def ping(self) -> dict[str, Any]:
        settings: dict[str, Any] = self._call("ping", "request", {}, time.monotonic() + self.deadline_s)
        _require_trustworthy(settings)
        return settings

    def backlog(self) -> Backlog:
        return Backlog()

    def perform(self, function: str, request: dict[str, Any]) -> Any:
        """Call a function that only operators need, and again if it fails for a reason that passes."""
        return self._persist(function, "request", request)

    def examine(self, function: str, request: dict[str, Any], seconds: float) -> Any:
        """Ask the database about itself, or mend it, once: see conversation/doctor.

        `seconds`: when to give up; no statement takes longer than `deadline_s`, either.
        """
        return self._call(function, "request", request, time.monotonic() + seconds)

    @abstractmethod
    def close(self) -> None: ...

    def _request(self, function: str, project: str, session_id: str | None = None, **more: Any) -> Any:
        request = {"project": project, **more}
        if session_id is not None:
            request["session_id"] = session_id
        return self._persist(function, "request", request)

    def _persist(self, function: str, argument: str, value: dict[str, Any]) -> Any:
        """Call a function, and again if it fails for a reason that passes."""
        begun = time.monotonic()
        attempt = partial(self._call, function, argument, value, begun + self.deadline_s)
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
    receipts = BatchReceipts(**{kind: [_receipt(receipt) for receipt in answer.get(kind, ())] for kind in KINDS})
    if any(len(getattr(receipts, kind)) != len(getattr(batch, kind)) for kind in KINDS):
        raise Misconfigured("the store answered with fewer receipts than records: its functions are not ours")
    return receipts


def _receipt(answered: dict[str, Any]) -> Receipt:
    # most say one word; receipts are frozen, so those that say the same may be the same
    if len(answered) == 1:
        return _PLAIN[answered["receipt"]]
    if answered.get("fields") == ["erased_at"]:  # as the fill rule says of a turn that went with who said it
        return Receipt(receipt="rejected", reason="erased")
    return Receipt.model_validate(answered)


def _require_trustworthy(settings: dict[str, Any]) -> None:
    """Raise `Misconfigured` unless an acknowledgement of this server means kept."""
    if settings["schema"] < SCHEMA_VERSION:
        raise Misconfigured(
            f"the database has schema {settings['schema']}, this service needs {SCHEMA_VERSION}: "
            "run `flask --app app migrate`"
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
    if settings["rows_hidden"]:
        raise Misconfigured(
            "row-level security hides the tables from this role: connect as their owner, or as service_role"
        )
    if settings["read_only"]:
        raise StoreUnavailable("the database is read-only: a standby, or its disk is full")
