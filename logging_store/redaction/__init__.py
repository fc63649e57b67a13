"""Replaces mail addresses, telephone numbers, card numbers, IP addresses and secrets before anything is stored.

The store, the spool and the dead letters only get redacted texts. Replacements are counted by kind, and what was
replaced isn't stored. If a finder fails, by an error or a timeout, the record is rejected, or, with `fail_open`,
stored as it was sent.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from logging_store.batches import Receipt, Row
from logging_store.errors import Invalid
from logging_store.redaction import row_fields as row_fields
from logging_store.redaction.finders import Finder
from logging_store.redaction.text import FinderSet, RedactionFailed, RedactionPass

_log = logging.getLogger("turnlog.redaction")

#: CPU seconds for all texts of one call; four megabytes of dialogues take a tenth of that.
BUDGET_S = 3.0


@dataclass
class Redacted:
    """The result: position -> receipt of the rows that could not be redacted, and counts by finder."""

    rejected: dict[int, Receipt] = field(default_factory=dict)
    replaced: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)


class Redaction:
    """Redacts with `finders`. `fail_open`: if a finder fails, the text is stored without its replacements."""

    def __init__(
        self,
        finders: Sequence[Finder],
        *,
        fail_open: bool = False,
        clock: Callable[[], float] = time.thread_time,
        budget_s: float = BUDGET_S,
    ) -> None:
        self._finders = FinderSet(finders)
        self._fail_open = fail_open
        self._clock = clock
        self._budget_s = budget_s

    @property
    def names(self) -> tuple[str, ...]:
        return self._finders.names

    def redact_rows(self, rows: Sequence[Row]) -> Redacted:
        """Redact rows in place."""
        redaction_pass = self._start_pass()
        rejected: dict[int, Receipt] = {}
        for position, row in enumerate(rows):
            for name in row_fields.FIELDS:
                if name in row:
                    try:
                        row[name] = row_fields.redact_field(name, row[name], redaction_pass.redact)
                    except RedactionFailed as error:
                        rejected[position] = Receipt(receipt="rejected", fields=(name,), reason=str(error))
                        break
        return self._finish(redaction_pass, rejected)

    def redact_changes(self, changes: Row) -> Redacted:
        """Redact the changes of a session in place. Raises `Invalid` if that fails."""
        redacted = self.redact_rows([changes])
        for receipt in redacted.rejected.values():
            raise Invalid(receipt.reason or "", field=receipt.fields[0])
        return redacted

    def as_stored(self, name: str, value: Any) -> Any:
        """Return a field's value as it would be stored; as it was sent if it can't be redacted."""
        row = {name: value}
        self.redact_rows([row])
        return row[name]

    def _start_pass(self) -> RedactionPass:
        return RedactionPass(self._finders, self._clock() + self._budget_s, self._clock, fail_open=self._fail_open)

    def _finish(self, redaction_pass: RedactionPass, rejected: dict[int, Receipt]) -> Redacted:
        for name, cause in redaction_pass.causes.items():
            outcome = "stored unredacted" if self._fail_open else "rejected"
            # log neither the text nor the error's message, which may quote it
            _log.error(
                "redaction by %s failed (%s): %d texts were %s", name, cause, redaction_pass.failed[name], outcome
            )
        return Redacted(rejected, redaction_pass.replaced, redaction_pass.failed)
