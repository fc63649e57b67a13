"""Compares a client's own record of what it sent with the log.

The client's file is JSON lines, of any length and in any order. Only the offsets of its lines are in memory; each
session is compared with its transcript page by page, and its texts are read from the file again.
"""

import threading
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import jiter

from logging_store import operations as ops
from logging_store.batches import STORED
from logging_store.errors import SessionErased, SessionNotFound, StoreUnavailable
from logging_store.records import identity
from logging_store.repository import ConversationRepository

_THREADS = 8  # sessions compared at once, since most of the time is latency of the store
_WINDOW = 256  # sessions submitted at once; a million futures would take more memory than the offsets
_PAGE = 100  # rows of a transcript, with their texts in memory
_TEXTS = ("prompt", "response")
_REFUSED = frozenset({"conflict", "rejected"})
_ACKNOWLEDGED = STORED | {"spooled"}

Verdict = Literal["missing", "differing", "in doubt", "unreadable"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A discrepancy, with the ids as the client wrote them. `detail`: the reason, or the fields that differ."""

    verdict: Verdict
    session_id: str | None
    interaction_id: str | None
    detail: str


@dataclass
class Comparison:
    """The number of lines of the file, and the state of the distinct interactions in it.

    stored: with the texts that were sent. spooled: accepted, but not in the database yet. erased: with their session.
    refused: rejected, and the client knows. in_doubt: not stored, but never acknowledged; or sent without an id,
    so that it can't be found. missing: not stored, though sent. differing: stored with another text.
    """

    lines: int = 0
    sent: int = 0
    stored: int = 0
    spooled: int = 0
    erased: int = 0
    refused: int = 0
    in_doubt: int = 0
    missing: int = 0
    differing: int = 0
    unreadable: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Return whether everything that was sent is accounted for."""
        return not (self.missing or self.differing or self.unreadable)

    def find(self, finding: Finding) -> None:
        """Count and add a finding."""
        counter = finding.verdict.replace(" ", "_")
        setattr(self, counter, getattr(self, counter) + 1)
        self.findings.append(finding)

    def add(self, other: "Comparison", listed: int | None) -> None:
        """Add another's counts, and its findings up to `listed` of each verdict, or all for None."""
        if listed is None:
            self.findings += other.findings
        else:
            counts = Counter(finding.verdict for finding in self.findings)
            for finding in other.findings:
                counts[finding.verdict] += 1
                if counts[finding.verdict] <= listed:
                    self.findings.append(finding)
        for counter in fields(self):
            if counter.name != "findings":
                setattr(self, counter.name, getattr(self, counter.name) + getattr(other, counter.name))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class _Line(NamedTuple):
    """A line of the file. `answered`: whether it has a field `receipt`, which is null if no answer came."""

    session: str | None
    interaction: str | None
    texts: dict[str, Any]
    answered: bool
    receipt: str | None

    def finding(self, verdict: Verdict, detail: str) -> Finding:
        return Finding(verdict, self.session, self.interaction, detail)


def compare(
    repository: ConversationRepository, file: Path, *, session: str | None = None, listed: int | None = None
) -> Comparison:
    """Look up the interaction of each line in the log.

    A line is the body of a `POST /v1/interactions`, optionally with the `receipt` of its answer, null for no answer.
    `session`: compare only this one. `listed`: the maximum of findings of each verdict to return, None for all.
    """
    with file.open("rb") as lines:
        return _Comparer(repository, lines, listed).compare(session)


class _Comparer:
    def __init__(self, repository: ConversationRepository, lines: BinaryIO, listed: int | None) -> None:
        self._repository = repository
        self._lines = lines
        self._reading = threading.Lock()
        self._listed = listed
        self._result = Comparison()

    def compare(self, session: str | None) -> Comparison:
        only = identity.session(self._repository.project, session).id if session is not None else None
        sessions = iter(self._offsets(only).items())
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="ledger") as threads:
            while some := list(islice(sessions, _WINDOW)):
                for found in threads.map(lambda each: self._compare_session(*each), some):
                    self._result.add(found, self._listed)
        return self._result

    def _offsets(self, only: str | None) -> dict[str, "array[int]"]:
        """Return the offsets of each session's lines; count the lines that can't be looked up."""
        offsets: dict[str, array[int]] = {}
        offset = 0
        for number, raw in enumerate(self._lines, start=1):
            here, offset = offset, offset + len(raw)
            if not raw.strip():
                continue
            result = Comparison(lines=1)
            try:
                line = _read(raw)
            except ValueError as error:
                result.find(Finding("unreadable", None, None, f"line {number}: {error}"))
                self._result.add(result, self._listed)
                continue
            # identity.session would create an id for None
            who = identity.session(self._repository.project, line.session).id if line.session is not None else None
            if only is not None and who != only:
                continue
            if who is not None and line.interaction is not None:
                offsets.setdefault(who, array("Q")).append(here)
                self._result.lines += 1
                continue
            result.sent = 1
            if line.receipt in _REFUSED:
                result.refused = 1
            else:
                unnamed = "interaction_id" if line.interaction is None else "session_id"
                result.find(line.finding("in doubt", f"line {number} has no {unnamed}, so it can't be looked up"))
            self._result.add(result, self._listed)
        return offsets

    def _compare_session(self, session_id: str, offsets: "array[int]") -> Comparison:
        found = Comparison()
        sent: dict[str, list[int]] = {}
        for offset in offsets:
            name = self._read_at(offset).interaction
            sent.setdefault(identity.interaction(self._repository.project, session_id, name).id, []).append(offset)
        found.sent = len(sent)
        try:
            for row in self._transcript(session_id):
                if texts := sent.pop(row["interaction_id"], None):
                    _count_stored(found, [self._line_at(offset) for offset in texts], row)
        except SessionNotFound:
            pass  # nothing was stored, so all of `sent` is missing
        except SessionErased:
            found.erased += len(sent)
            return found
        for texts in sent.values():
            _count_missing(found, [self._line_at(offset) for offset in texts])
        return found

    def _transcript(self, session_id: str) -> Iterator[ops.Interaction]:
        for page in ops.pages(partial(self._repository.transcript, session_id), ops.TranscriptOptions(limit=_PAGE)):
            if not page["complete"]:
                raise StoreUnavailable("a session can't be read completely while a part of it is spooled: try again")
            yield from page["interactions"]

    def _read_at(self, offset: int) -> _Line:
        with self._reading:
            self._lines.seek(offset)
            raw = self._lines.readline()
        return _read(raw)

    def _line_at(self, offset: int) -> _Line:
        line = self._read_at(offset)
        if redaction := self._repository.redaction:
            line = line._replace(texts={name: redaction.as_stored(name, text) for name, text in line.texts.items()})
        return line


def _count_stored(found: Comparison, lines: list[_Line], row: Mapping[str, Any]) -> None:
    """Count a stored interaction. Texts of rejected calls don't have to match."""
    differing = {
        name for line in lines if line.receipt not in _REFUSED for name, text in line.texts.items() if row[name] != text
    }
    if differing:
        found.find(lines[0].finding("differing", ", ".join(sorted(differing))))
    elif row["spooled"]:
        found.spooled += 1
    else:
        found.stored += 1


def _count_missing(found: Comparison, lines: list[_Line]) -> None:
    """Count an interaction that isn't stored."""
    promised = next((line for line in lines if line.receipt in _ACKNOWLEDGED), None)
    if promised or any(not line.answered for line in lines):
        found.find(
            lines[0].finding("missing", f"acknowledged as {promised.receipt}" if promised else "sent, but not stored")
        )
    elif all(line.receipt in _REFUSED for line in lines):
        found.refused += 1
    else:
        found.find(lines[0].finding("in doubt", "no answer was received, and it isn't stored: send it again"))


def _read(raw: bytes) -> _Line:
    """Parse a line. Raises `ValueError` with the reason."""
    sent = jiter.from_json(raw, allow_inf_nan=False, catch_duplicate_keys=True)
    if not isinstance(sent, dict):
        raise ValueError("must be an object")  # noqa: TRY004 - of the line, not of our types
    for name in ("session_id", "interaction_id", "receipt"):
        if not isinstance(sent.get(name), str | None):
            raise ValueError(f"{name} must be a text")  # noqa: TRY004
    return _Line(
        sent.get("session_id"),
        sent.get("interaction_id"),
        {name: sent[name] for name in _TEXTS if sent.get(name) is not None},
        "receipt" in sent,
        sent.get("receipt"),
    )
