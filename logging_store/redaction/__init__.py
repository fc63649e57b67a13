"""Replaces mail addresses, telephone numbers, cards, addresses of machines and secrets before anything is stored.

What the store, the spool and the dead letters get has been gone through. What was replaced is counted by name, and kept
nowhere. A finder that fails (its own fault, or a text that takes too long) refuses the record, unless it is said that
records are then stored as they were sent.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from logging_store.batches import Receipt, Row
from logging_store.errors import Invalid
from logging_store.redaction import row_fields as of_rows
from logging_store.redaction.finders import Finder
from logging_store.redaction.text import Finders, Passage, RedactionFailed

_log = logging.getLogger("turnlog.redaction")

#: Seconds of the processor that the texts of one call may take together; four megabytes of dialogues take a tenth.
BUDGET_S = 3.0


@dataclass
class Redacted:
    """What was done: the receipts of the rows that are refused, by their places, and counts by finder."""

    rejected: dict[int, Receipt] = field(default_factory=dict)
    replaced: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)


class Redaction:
    """Redacts by `finders`. `fail_open`: what a failed finder would have found is stored."""

    def __init__(
        self,
        finders: Sequence[Finder],
        *,
        fail_open: bool = False,
        clock: Callable[[], float] = time.thread_time,
        budget_s: float = BUDGET_S,
    ) -> None:
        self._finders = Finders(finders)
        self._fail_open = fail_open
        self._clock = clock
        self._budget_s = budget_s

    @property
    def names(self) -> tuple[str, ...]:
        return self._finders.names

    def redact_rows(self, rows: Sequence[Row]) -> Redacted:
        """Redact rows in their places."""
        passage = self._passage()
        refused: dict[int, Receipt] = {}
        for place, row in enumerate(rows):
            for name in of_rows.FIELDS:
                if name in row:
                    try:
                        row[name] = of_rows.redact_field(name, row[name], passage.redact)
                    except RedactionFailed as error:
                        refused[place] = Receipt(receipt="rejected", fields=(name,), reason=str(error))
                        break
        return self._told(passage, refused)

    def redact_changes(self, changes: Row) -> Redacted:
        """Redact changes in their places. Raises `Invalid` where that fails."""
        redacted = self.redact_rows([changes])
        for receipt in redacted.rejected.values():
            raise Invalid(receipt.reason or "", field=receipt.fields[0])
        return redacted

    def as_stored(self, name: str, value: Any) -> Any:
        """Return a field's value as it is stored; as it was sent where it can't be redacted."""
        row = {name: value}
        self.redact_rows([row])
        return row[name]

    def _passage(self) -> Passage:
        return Passage(self._finders, self._clock() + self._budget_s, self._clock, fail_open=self._fail_open)

    def _told(self, passage: Passage, refused: dict[int, Receipt]) -> Redacted:
        for name, cause in passage.causes.items():
            became = "stored as they were sent" if self._fail_open else "refused"
            # neither the text nor the failure's own words, which may quote it
            _log.error("redaction by %s failed (%s): %d texts were %s", name, cause, passage.failed[name], became)
        return Redacted(refused, passage.replaced, passage.failed)
