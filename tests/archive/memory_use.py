"""Imports or exports so many records in a process of its own, and prints the most memory that it had, in bytes.

The store does nothing, so that the memory is that of reading and writing alone.
"""

import json
import resource
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from conversation.archive import documents, exporting
from conversation.archive.entries import Reader
from conversation.archive.formats import csv_table, fine_tuning, mongoexport, openai_chat, turnlog_lines
from conversation.archive.importing import Importer
from logging_store.batches import Receipt
from logging_store.records.identity import Identity
from logging_store.records.models import Record
from logging_store.repository import ConversationRepository, WriteResult
from tests.archive.test_documents import Dripping

Row = Any

_TEXT = "some words of a person, " * 40


class Generated(Dripping):
    """A stream that is made while it is read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__(b"", 0)
        self._pieces = pieces

    def read(self, _: int | None = -1, /) -> bytes:
        return next(self._pieces, b"")


class Repository(ConversationRepository):
    """A log of so many interactions, in many sessions or in one, that is made while it is read."""

    def __init__(self, sessions: int, interactions: int) -> None:
        self._sessions = sessions
        self._interactions = interactions

    def sessions_by_id(self, query: Row) -> Row:
        first = int(query.get("after", 0))
        ids = range(first, min(first + query["limit"], self._sessions))
        names = (
            "key",
            "user_id",
            "owner",
            "title",
            "folder_id",
            "session_number",
            "scheduled_on",
            "started_at",
            "ended_at",
            "earliest_turn_at",
        )
        blank = dict.fromkeys((*names, "erased_at", "text_expired_at", "last_activity_at"))
        rows: list[Row] = [
            {**blank, "session_id": str(n), "status": "open", "implicit": False, "tags": [], "metadata": {},
             "created_at": "2026-11-21T06:30:00+00:00", "interaction_count": 0, "failed_count": 0}
            for n in ids
        ]  # fmt: skip
        return {"sessions": rows, "after": str(ids.stop) if ids.stop < self._sessions else None}

    def participants(self, _: str) -> Row:
        return {"participants": []}

    def feedback(self, _: str, __: Row) -> Row:
        return {"feedback": [], "after": None}

    def session_revisions(self, _: str, __: Row) -> Row:
        return {"revisions": [], "after": None}

    def folders(self, _: Row) -> Row:
        return {"folders": [], "after": None}

    def transcript(self, name: str, query: Row) -> Row:
        first = int(query.get("after", 0))
        ids = range(first, min(first + query["limit"], self._interactions))
        names = (
            "key", "model", "provider", "error", "finish_reason", "started_at", "completed_at", "latency_ms",
            "time_to_first_token_ms", "input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens",
            "reasoning_tokens", "cost_usd", "participant", "reply_to", "alternative_to", "chosen_at", "erased_at",
            "text_expired_at", "context", "trace_id", "span_id",
        )  # fmt: skip
        rows: list[Row] = [
            {**dict.fromkeys(names), "interaction_id": str(n), "session_id": name, "prompt": f"{n} {_TEXT}",
             "response": f"{n} {_TEXT}", "status": "completed", "turn": n, "tags": [], "metadata": {},
             "alternatives": [],
             "created_at": "2026-11-21T06:30:00+00:00", "spooled": False}
            for n in ids
        ]  # fmt: skip
        return {"interactions": rows, "after": str(ids.stop) if ids.stop < self._interactions else None}


def _keep(records: Sequence[Record]) -> list[WriteResult]:
    return [WriteResult(Receipt(receipt="created"), Identity("", None)) for _ in records]


def _ignore(*_: Any) -> None:
    pass


def _import(reader: Reader, pieces: Iterator[bytes], count: int) -> None:
    run = Importer(_keep, reject=_ignore, report=_ignore, on_outage=_ignore, patience_s=0)
    for _ in run.run(reader(documents.read(Generated(pieces)))):
        pass
    assert run.tally.kinds["interactions"].total() == count
    assert not run.tally.not_stored


def _chat(n: int) -> bytes:
    said = [{"role": role, "content": f"{n} {_TEXT}"} for role in ("user", "assistant")]
    return json.dumps({"id": f"chat {n}", "sessionId": f"chat {n}", "messages": said}).encode()


def _message(n: int, count: int) -> bytes:
    # each session's two messages lie far from each other
    role = "user" if n < count else "assistant"
    return json.dumps({"sessionId": f"chat {n % count}", "role": role, "content": f"{n} {_TEXT}"}).encode() + b"\n"


def main(what: str, count: int) -> None:
    match what:
        case "lines":
            _import(openai_chat.read, (_chat(n) + b"\n" for n in range(count)), count)
        case "array":
            pieces = ((b"," if n else b"[") + _chat(n) for n in range(count))
            _import(openai_chat.read, chain(pieces, [b"]"]), count)
        case "conversations":
            _import(mongoexport.read, (_chat(n) + b"\n" for n in range(count)), count)
        case "messages":
            _import(mongoexport.read, (_message(n, count) for n in range(2 * count)), count)
        case "sessions" | "one session":
            repository = Repository(count, 1) if what == "sessions" else Repository(1, count)
            for writer in (turnlog_lines.write, fine_tuning.write, csv_table.write):
                size = sum(map(len, writer(exporting.export_sessions(repository, {}))))
                assert size > count * 2 * len(_TEXT)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)  # noqa: T201 - the answer


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
