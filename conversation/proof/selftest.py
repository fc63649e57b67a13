"""Tests the log's guarantees on the store in use, in a project of its own that is deleted afterwards.

Many writers share a few sessions. They create them and log their turns, whole, in halves and in batches, in any order
and repeatedly; then everything is read back and compared with what was sent.
"""

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from conversation.proof.selftest_calls import Call, Script, describe, title
from logging_store import operations as ops
from logging_store.errors import TurnlogError
from logging_store.log_reader import NamedSessionsQuery
from logging_store.records.models import Session
from logging_store.repository import ConversationRepository, WriteResult

_PAGE = 100


@dataclass
class Check:
    """A guarantee: how many things were checked, and a sentence for each violation."""

    name: str
    looked_at: int = 0
    wrong: list[str] = field(default_factory=list)

    def record(self, things: int, sentences: Iterable[str]) -> None:
        """Count checked things, and add their violations; a failure to read them is a violation as well."""
        self.looked_at += things
        try:
            self.wrong.extend(sentences)
        except TurnlogError as error:
            self.wrong.append(f"can't be read: {error}")


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a self-test. `latencies_s`: sorted, one for each answered call."""

    calls: int
    seconds: float
    latencies_s: Sequence[float]
    checks: Sequence[Check]

    @property
    def holds(self) -> bool:
        return not any(check.wrong for check in self.checks)

    def latency_s(self, share: float) -> float:
        """Return the latency that a share (0 to 1) of the calls didn't exceed, in seconds."""
        return self.latencies_s[int(share * (len(self.latencies_s) - 1))] if self.latencies_s else 0.0


def new_project() -> str:
    """Return a unique project name; the database only deletes projects with this prefix."""
    return f"selftest-{uuid.uuid4()}"


def run(log: ConversationRepository, *, writers: int, rounds: int, chance: random.Random) -> Report:
    """Write, read back, and delete everything. Each round has new sessions, shared by all its writers.

    `log`: of a new project. `chance`: decides the order of the calls.
    """
    test = _SelfTest(log, writers, chance)
    try:
        seconds = test.write(rounds)
        checks = [test.answered, test.accepted, test.created_once(), *test.read_back()]
    finally:
        gone = test.clean_up()
    return Report(test.answered.looked_at, seconds, sorted(test.latencies), [*checks, gone])


class _SelfTest:
    def __init__(self, log: ConversationRepository, writers: int, chance: random.Random) -> None:
        self.answered = Check("every call is answered")
        self.accepted = Check("every record is accepted")
        self.latencies: list[float] = []
        self._log = log
        self._writers = writers
        self._script = Script(writers, chance)
        self._created: Counter[str] = Counter()  # how many receipts said "created"
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def write(self, rounds: int) -> float:
        """Run the writers; return the seconds that they took."""
        begun = time.monotonic()
        with ThreadPoolExecutor(self._writers, thread_name_prefix="selftest") as threads:
            try:
                for number in range(rounds):
                    list(threads.map(self._send_all, self._script.round(number)))
            finally:
                self._stop.set()  # after an interrupt, no writer may write once the records are deleted
        return time.monotonic() - begun

    def created_once(self) -> Check:
        repeated = [f"{name} was created {times} times" for name, times in self._created.items() if times > 1]
        return Check("no record is created twice", len(self._created), repeated)

    def read_back(self) -> list[Check]:
        rows, texts = Check("each id has one row"), Check("texts are stored as sent")
        sessions, turns = Check("each session is stored once"), Check("turns have no gaps")
        for name, sent in self._script.sent.items():
            rows.record(len(sent), self._wrong_rows(name))
            texts.record(len(sent), self._wrong_texts(name))
            sessions.record(1, self._wrong_session(name))
            turns.record(len(sent), self._wrong_turns(name))
        sessions.record(0, self._wrong_list())
        turns.record(0, self._wrong_gaps())
        return [rows, texts, sessions, turns]

    def clean_up(self) -> Check:
        gone = Check("nothing is left behind")
        gone.record(0, self._delete_all(gone))
        return gone

    def _send_all(self, calls: Sequence[Call]) -> None:
        for call in calls:
            if self._stop.is_set():
                return
            begun = time.perf_counter()
            try:
                results = [self._log.ensure_session(call)] if isinstance(call, Session) else self._log.log(call)
            except Exception as error:  # noqa: BLE001 - whatever it was, the call failed
                with self._lock:
                    self.answered.record(1, [f"{describe(call)}: {type(error).__name__}: {error}"])
                continue
            took = time.perf_counter() - begun
            with self._lock:
                self.answered.record(1, [])
                self.latencies.append(took)
                for kept in results:
                    self._record_receipt(kept)

    def _record_receipt(self, kept: WriteResult) -> None:
        name = " ".join(who.key or who.id for who in (kept.session, kept.interaction) if who)
        receipt = kept.receipt
        self.accepted.record(
            1, [] if receipt.stored else [f"{name}: {receipt.receipt}, {receipt.reason or receipt.fields}"]
        )
        self._created[name] += receipt.receipt == "created"

    def _transcript(self, name: str) -> Iterator[ops.Interaction]:
        for page in ops.pages(partial(self._log.transcript, name), ops.TranscriptOptions(limit=_PAGE)):
            yield from page["interactions"]

    def _wrong_rows(self, name: str) -> Iterator[str]:
        rows = Counter(row["key"] for row in self._transcript(name))
        for key in self._script.sent[name].keys() | rows.keys():
            if rows[key] != (expected := int(key in self._script.sent[name])):
                yield f"{name} {key} has {rows[key]} rows, not {expected}"

    def _wrong_texts(self, name: str) -> Iterator[str]:
        for row in self._transcript(name):
            sent = self._script.sent[name].get(row["key"] or "")
            if sent and (row["prompt"], row["response"], row["turn"]) != (sent.prompt, sent.response, sent.turn):
                yield f"{name} {row['key']} differs from what was sent"

    def _wrong_session(self, name: str) -> Iterator[str]:
        session, expected = self._log.session(name), len(self._script.sent[name])
        if (session["implicit"], session["title"]) != (False, title(name)):
            yield f"{name} wasn't filled by its explicit creation"
        if session["interaction_count"] != expected:
            yield f"{name} counts {session['interaction_count']} interactions, not {expected}"

    def _wrong_list(self) -> Iterator[str]:
        listed: Counter[str | None] = Counter()
        for page in ops.pages(self._log.sessions, NamedSessionsQuery(limit=_PAGE)):
            listed.update(session["key"] for session in page["sessions"])
        for name in listed.keys() | self._script.sent.keys():
            if listed[name] != (expected := int(name in self._script.sent)):
                yield f"{name} is listed {listed[name]} times, not {expected}"

    def _wrong_turns(self, name: str) -> Iterator[str]:
        gaps, last = self._log.gaps(name, _PAGE), len(self._script.sent[name])
        if (gaps["first"], gaps["last"]) != (1, last):
            yield f"{name} has turns {gaps['first']} to {gaps['last']}, not 1 to {last}"
        if gaps["missing"] or gaps["doubled_count"]:
            yield f"{name} lacks the turns {gaps['gaps']} and has several of {gaps['doubled']}"

    def _wrong_gaps(self) -> Iterator[str]:
        for page in ops.pages(self._log.sessions_with_gaps, ops.GapsPageOptions(limit=_PAGE, ranges=1)):
            yield from (f"{session['key']} is listed among the sessions with gaps" for session in page["sessions"])

    def _delete_all(self, gone: Check) -> Iterator[str]:
        while True:
            report = self._log.store.ask(ops.PURGE_PROJECT, self._log.project, ops.PurgeProjectQuery())
            removed = report["sessions"] + report["interactions"]
            gone.looked_at += removed
            if not report["left"]:
                return
            if not removed:
                yield f"{report['left']} rows of the project {self._log.project} can't be deleted"
                return
