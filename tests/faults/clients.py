"""Clients outside the service: threads that call, take note of what they were told, and say lost things again."""

import random
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import httpx

from tests.faults import script
from tests.faults.history import Call, History, Outcome, Record

CLIENTS = 16
PAUSE_S = 0.06  # between calls on average; sixteen clients make 200 calls a second at most, half of what 2 cores bear
GIVE_UP_S = 60.0  # far beyond every deadline: an answer that takes longer counts as none

_AGAIN = {"unknown": 0.6, "failed": 0.6, "acknowledged": 0.03}  # how often a call is made again as it was
_READS = 0.05
_MOST_TRIES = 4
_KEPT = {"created", "filled", "duplicate", "spooled"}
_REFUSED = {httpx.codes.SERVICE_UNAVAILABLE}


class Client:
    """One connection to the service; `history` is told of every call."""

    def __init__(self, http: httpx.Client, history: History) -> None:
        self._http, self._history = http, history

    def write(self, records: Sequence[Record]) -> Outcome:
        """Make one call with these records and return what it came to, for all of them alike."""
        self._history.invoke(records)
        path, body = _request(records)
        answer = self._call("POST", path, body)
        outcome = _outcome(answer)
        receipts = _receipts(answer, len(records)) if outcome == "acknowledged" else [""] * len(records)
        for record, receipt in zip(records, receipts, strict=True):
            if outcome == "acknowledged" and receipt not in _KEPT:
                self._history.complain(f"{record.id} was answered {_short(answer)}")
            else:
                self._history.settle(record, outcome, receipt)
        return outcome

    def read(self, session: str) -> None:
        path = f"/v1/sessions/{session}/interactions"
        answer = self._call("GET", path)
        if isinstance(answer, httpx.Response) and answer.status_code not in {200, 404, *_REFUSED}:
            self._history.complain(f"GET {path} was answered {_short(answer)}")

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> httpx.Response | httpx.TransportError:
        began = time.monotonic()
        answer: httpx.Response | httpx.TransportError
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            answer = error
        status = answer.status_code if isinstance(answer, httpx.Response) else 0
        self._history.answered(Call(method, began, time.monotonic() - began, status))
        return answer


class Clients:
    """Run from `__enter__` to `__exit__`; each has a thread, a connection and, by its number, a script of its own."""

    def __init__(self, url: str, seed: str, history: History, numbers: Iterable[int], pause_s: float) -> None:
        self._url, self._seed, self._history, self._pause_s = url, seed, history, pause_s
        self._end = threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=[n], name=f"client-{n}") for n in numbers]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
        if self._failures and value is None:
            raise self._failures[0]

    def _run(self, number: int) -> None:
        dice = random.Random(f"{self._seed} client {number}")
        try:
            with connection(self._url) as http:
                client = Client(http, self._history)
                for records in script.calls(number, self._seed):
                    for _ in range(_MOST_TRIES):
                        outcome = client.write(records)
                        if self._end.wait(self._pause_s * 2 * dice.random()):
                            return
                        if dice.random() > _AGAIN[outcome]:
                            break
                    if dice.random() < _READS:
                        client.read(records[0].session)
        except BaseException as error:  # noqa: BLE001 - raised where the clients are waited for
            self._failures.append(error)


def connection(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=GIVE_UP_S, trust_env=False)


def _outcome(answer: httpx.Response | httpx.TransportError) -> Outcome:
    """Tell what a call came to; an answer that is neither yes nor no counts as yes, so that it is looked at."""
    if isinstance(answer, httpx.ConnectError):
        return "failed"  # never sent
    if isinstance(answer, httpx.TransportError):
        return "unknown"
    return "failed" if answer.status_code in _REFUSED else "acknowledged"


def _request(records: Sequence[Record]) -> tuple[str, dict[str, Any]]:
    first = records[0]
    if first.name is None:
        return "/v1/sessions", {"session_id": first.session, "title": first.facts[0]}
    said = [
        {"session_id": each.session, "interaction_id": each.name, "prompt": each.facts[0], "response": each.facts[1]}
        for each in records
    ]
    return ("/v1/interactions", said[0]) if len(said) == 1 else ("/v1/interactions/batch", {"interactions": said})


def _receipts(answer: httpx.Response | httpx.TransportError, count: int) -> list[str]:
    """Return the receipts of an answer in order; empty ones if it is no answer of ours."""
    receipts: list[str] = []
    if isinstance(answer, httpx.Response):
        with suppress(ValueError, KeyError, TypeError):
            body = answer.json()
            receipts = [item["receipt"] for item in body["receipts"]] if "receipts" in body else [body["receipt"]]
    return receipts if len(receipts) == count else [""] * count


def _short(answer: httpx.Response | httpx.TransportError) -> str:
    return f"{answer.status_code} {answer.text[:300]}" if isinstance(answer, httpx.Response) else repr(answer)
