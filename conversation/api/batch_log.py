"""One log line per batch: a JSON object with counts and the first problems, for operators.

It holds no content: no texts, no metadata, no values of keys, and only names that the contract or the batch declares.
"""

import json
import logging
import re
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from conversation.api.requests import json_path
from logging_store.records.models import Interaction, OnConflict
from logging_store.repository import WriteResult

_log = logging.getLogger("turnlog.batch")

_PROBLEMS = 3
_FIELDS = 10  # of each problem
_INDEXES = 100
_REFUSALS = frozenset({"rejected", "conflict"})
_FIELD = re.compile(r"\.(\w+)")
_REASON = re.compile(r"[a-z_]+")


class BatchLine:
    """Collects the log line of a batch.

    `receipts`: one per item, filled in by the caller; empty while the store has not responded.
    """

    def __init__(
        self, receipts: Sequence[Mapping[str, Any]], on_conflict: OnConflict, key_fields: Collection[str]
    ) -> None:
        self._receipts = receipts
        self._on_conflict = on_conflict
        self._key_fields = key_fields
        self._started = time.monotonic()
        self._keys: int | None = None
        self._sessions: int | None = None

    def count(self, records: Sequence[Interaction], results: Sequence[WriteResult]) -> None:
        """Count the distinct sessions and the distinct keys of several parts, known once the store has responded."""
        self._sessions = len({each.session.id for each in results})
        self._keys = len({each.interaction for record, each in zip(records, results, strict=True) if record.key})

    def to_json(self, *, dry_run: bool, failure: str | None) -> dict[str, Any]:
        problems = (n for n, item in enumerate(self._receipts) if item.get("receipt") in _REFUSALS or "differs" in item)
        return {
            "event": "batch",
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "items": len(self._receipts),
            "counts": Counter(item.get("receipt", "failed") for item in self._receipts),
            "duration_ms": round((time.monotonic() - self._started) * 1000, 1),
            "keys": self._keys,
            "sessions": self._sessions,
            "on_conflict": self._on_conflict,
            "dry_run": dry_run,
            "failure": failure,
            "problems": [self._problem(n, self._receipts[n]) for n in islice(problems, _PROBLEMS)],
        }

    def _problem(self, index: int, item: Mapping[str, Any]) -> dict[str, Any]:
        reason = item.get("reason", "contradicts")
        fields = item["differs"] if "differs" in item else item["fields"]
        problem: dict[str, Any] = {
            "index": index,
            "receipt": item["receipt"],
            "reason": reason if _REASON.fullmatch(reason) else "refused",  # the store's messages may quote a value
            "fields": [self._name(field["path"]) for field in fields[:_FIELDS]],
        }
        if "indexes" in item:
            problem["indexes"] = item["indexes"][:_INDEXES]
        if "constraint" in item:
            problem["constraint"] = item["constraint"]
        return problem

    def _name(self, path: str) -> str:
        """Return the field of a path; an undeclared name is replaced, since it could hold content."""
        below = path.partition("]")[2]
        for part in self._key_fields:
            if below == json_path(("key", part))[1:]:
                return f"key.{part}"
        name = _FIELD.match(below)
        return name[1] if name and name[1] in Interaction.model_fields else "(unknown)"


@contextmanager
def log_batch(
    receipts: Sequence[Mapping[str, Any]], on_conflict: OnConflict, key_fields: Collection[str], *, dry_run: bool
) -> Iterator[BatchLine]:
    """Write the log line of a batch when the block ends, also by an error."""
    line = BatchLine(receipts, on_conflict, key_fields)
    failure = None
    try:
        yield line
    except Exception as error:
        failure = type(error).__name__
        raise
    finally:
        if _log.isEnabledFor(logging.INFO):
            # ASCII, so that it stays one line whatever it holds
            _log.info("%s", json.dumps(line.to_json(dry_run=dry_run, failure=failure)))
