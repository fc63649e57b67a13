"""Compares what a client says it sent with what the log holds.

The client's file is JSON lines, of any length and in any order. In memory are only the places of its lines, by
session; a session is compared page by page with its transcript, and texts are read again from the file for it.
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

_AT_ONCE = 8  # sessions: the time goes into waiting for the store
_HANDED_OUT = 256  # sessions; a future for each of a million would weigh more than their places
_PAGE = 100  # rows of a transcript read at once: their texts are in memory then
_TEXTS = ("prompt", "response")
_REFUSED = frozenset({"conflict", "rejected"})
_ACKNOWLEDGED = STORED | {"spooled"}

Verdict = Literal["missing", "differing", "in doubt", "unreadable"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to look at, in the client's own spelling of the ids. `detail`: why, or which fields differ."""

    verdict: Verdict
    session_id: str | None
    interaction_id: str | None
    detail: str


@dataclass
class Comparison:
    """How many lines the file has, and what became of the distinct interactions in it.

    stored: there, with the texts that were sent. spooled: accepted, on their way to the database. erased: with their
    session. refused: the client was told so. in_doubt: not there, and no answer ever promised it; or sent without an
    id, so nothing can be looked for. missing: not there, though sent. differing: there, with another text.
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
        """Tell whether all that was sent is accounted for."""
        return not (self.missing or self.differing or self.unreadable)

    def find(self, finding: Finding) -> None:
        """Count a finding and keep it."""
        counter = finding.verdict.replace(" ", "_")
        setattr(self, counter, getattr(self, counter) + 1)
        self.findings.append(finding)

    def add(self, other: "Comparison", listed: int | None) -> None:
        """Add the counts of another, and of its findings as many as may be listed of each verdict."""
        if listed is None:
            self.findings += other.findings
        else:
            kept = Counter(finding.verdict for finding in self.findings)
            for finding in other.findings:
                kept[finding.verdict] += 1
                if kept[finding.verdict] <= listed:
                    self.findings.append(finding)
        for counter in fields(self):
            if counter.name != "findings":
                setattr(self, counter.name, getattr(self, counter.name) + getattr(other, counter.name))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class _Line(NamedTuple):
    """What one line says. `answered`: whether it tells of a receipt at all; None as a receipt is no answer."""

    session: str | None
    interaction: str | None
    said: dict[str, Any]
    answered: bool
    receipt: str | None

    def finding(self, verdict: Verdict, detail: str) -> Finding:
        return Finding(verdict, self.session, self.interaction, detail)


def compare(
    repository: ConversationRepository, file: Path, *, session: str | None = None, listed: int | None = None
) -> Comparison:
    """Look each line's interaction up in the log.

    A line is the body of a `POST /v1/interactions`; it may also tell the `receipt` that it got, null for none.
    `session`: the only one to look at. `listed`: the most findings of each verdict to name, None for all of them.
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
        sessions = iter(self._places(only).items())
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="ledger") as threads:
            while some := list(islice(sessions, _HANDED_OUT)):
                for found in threads.map(lambda each: self._compare_session(*each), some):
                    self._result.add(found, self._listed)
        return self._result

    def _places(self, only: str | None) -> dict[str, "array[int]"]:
        """Return where in the file each session's lines are; count those that tell no place to look at."""
        places: dict[str, array[int]] = {}
        place = 0
        for number, raw in enumerate(self._lines, start=1):
            here, place = place, place + len(raw)
            if not raw.strip():
                continue
            told = Comparison(lines=1)
            try:
                line = _read(raw)
            except ValueError as error:
                told.find(Finding("unreadable", None, None, f"line {number}: {error}"))
                self._result.add(told, self._listed)
                continue
            # without a name, identity would make a new one
            who = identity.session(self._repository.project, line.session).id if line.session is not None else None
            if only is not None and who != only:
                continue
            if who is not None and line.interaction is not None:
                places.setdefault(who, array("Q")).append(here)
                self._result.lines += 1
                continue
            told.sent = 1
            if line.receipt in _REFUSED:
                told.refused = 1
            else:
                unnamed = "interaction_id" if line.interaction is None else "session_id"
                told.find(line.finding("in doubt", f"line {number} has no {unnamed} to look for"))
            self._result.add(told, self._listed)
        return places

    def _compare_session(self, session_id: str, places: "array[int]") -> Comparison:
        found = Comparison()
        sent: dict[str, list[int]] = {}
        for place in places:
            name = self._read_at(place).interaction
            sent.setdefault(identity.interaction(self._repository.project, session_id, name).id, []).append(place)
        found.sent = len(sent)
        try:
            for row in self._transcript(session_id):
                if said := sent.pop(row["interaction_id"], None):
                    _weigh(found, [self._line_at(place) for place in said], row)
        except SessionNotFound:
            pass  # nothing of it was ever stored: what is left in `sent` says so
        except SessionErased:
            found.erased += len(sent)
            return found
        for said in sent.values():
            _miss(found, [self._line_at(place) for place in said])
        return found

    def _transcript(self, session_id: str) -> Iterator[ops.Interaction]:
        for page in ops.pages(partial(self._repository.transcript, session_id), ops.TranscriptOptions(limit=_PAGE)):
            if not page["complete"]:
                raise StoreUnavailable("a session can't be read whole while some of it waits in the spool: try again")
            yield from page["interactions"]

    def _read_at(self, place: int) -> _Line:
        with self._reading:
            self._lines.seek(place)
            raw = self._lines.readline()
        return _read(raw)

    def _line_at(self, place: int) -> _Line:
        line = self._read_at(place)
        if redaction := self._repository.redaction:
            line = line._replace(said={name: redaction.as_stored(name, text) for name, text in line.said.items()})
        return line


def _weigh(found: Comparison, lines: list[_Line], row: Mapping[str, Any]) -> None:
    """Count an interaction that is there. What a client was told is refused need not be in it."""
    differing = {
        name for line in lines if line.receipt not in _REFUSED for name, text in line.said.items() if row[name] != text
    }
    if differing:
        found.find(lines[0].finding("differing", ", ".join(sorted(differing))))
    elif row["spooled"]:
        found.spooled += 1
    else:
        found.stored += 1


def _miss(found: Comparison, lines: list[_Line]) -> None:
    """Count an interaction that is not there."""
    promised = next((line for line in lines if line.receipt in _ACKNOWLEDGED), None)
    if promised or any(not line.answered for line in lines):
        found.find(lines[0].finding("missing", f"was told {promised.receipt}" if promised else "was sent"))
    elif all(line.receipt in _REFUSED for line in lines):
        found.refused += 1
    else:
        found.find(lines[0].finding("in doubt", "got no answer, and is not there: send it again"))


def _read(raw: bytes) -> _Line:
    """Read one line. Raises `ValueError` saying what is wrong with it."""
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
