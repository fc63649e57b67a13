"""What the database said of a key or of all origins, believed for a while.

Asked again after some seconds, so that what was revoked stops soon. While the store is away the last answer counts, so
that writes of a known caller are spooled; of what was never proven nobody can tell, and the call is a 503.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from logging_store.errors import Misconfigured, StoreUnavailable

FRESH_S = 10.0  # a revoked key stops within this, and the time of a look-up
USABLE_S = 25.0  # while somebody else asks, an answer as old as this is good enough
OUTAGE_S = 24 * 3600.0  # the longest that an answer counts while the store is away
_MOST = 10_000

_Answer = TypeVar("_Answer")


class Memory(Protocol[_Answer]):
    """Where answers outlive this process. Ages in seconds."""

    def recall(self, name: str) -> tuple[_Answer, float] | None: ...

    def remember(self, name: str, answer: _Answer) -> None: ...


@dataclass(slots=True)
class _Proof(Generic[_Answer]):
    answer: _Answer
    proven_at: float  # of the monotonic clock


class Proofs(Generic[_Answer]):
    """Answers of `ask`, by name. Safe to use from any thread."""

    def __init__(self, ask: Callable[[str], _Answer], memory: Memory[_Answer] | None = None) -> None:
        self._ask = ask
        self._memory = memory
        self._lock = threading.Lock()
        self._proofs: OrderedDict[str, _Proof[_Answer]] = OrderedDict()
        self._asking: dict[str, threading.Lock] = {}

    def get(self, name: str) -> _Answer:
        """Return the answer for a name. Raises `StoreUnavailable` if it was never had and can't be had now."""
        proof = self._proofs.get(name)
        age = time.monotonic() - proof.proven_at if proof else OUTAGE_S
        if proof and age < FRESH_S:
            return proof.answer
        with self._lock:
            asking = self._asking.setdefault(name, threading.Lock())
        if proof and age < USABLE_S:
            if not asking.acquire(blocking=False):
                return proof.answer
        else:
            asking.acquire()
        try:
            newer = self._proofs.get(name)
            if newer and time.monotonic() - newer.proven_at < FRESH_S:
                return newer.answer
            return self._prove(name, newer)
        finally:
            with self._lock:
                self._asking.pop(name, None)
            asking.release()

    def _prove(self, name: str, known: _Proof[_Answer] | None) -> _Answer:
        try:
            answer = self._ask(name)
        except (StoreUnavailable, Misconfigured):
            known = known or self._recall(name)
            if known is None or time.monotonic() - known.proven_at > OUTAGE_S:
                raise
            self._keep(name, known)
            return known.answer
        self._keep(name, _Proof(answer, time.monotonic()))
        if self._memory:
            self._memory.remember(name, answer)
        return answer

    def _recall(self, name: str) -> _Proof[_Answer] | None:
        recalled = self._memory.recall(name) if self._memory else None
        return _Proof(recalled[0], time.monotonic() - recalled[1]) if recalled else None

    def _keep(self, name: str, proof: _Proof[_Answer]) -> None:
        with self._lock:
            self._proofs[name] = proof
            self._proofs.move_to_end(name)
            while len(self._proofs) > _MOST:
                with suppress(KeyError):
                    self._proofs.popitem(last=False)
