"""Tables of text for the terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from conversation.printable import one_line

if TYPE_CHECKING:
    from conversation.doctor.findings import Check


def to_columns(rows: Sequence[Sequence[str]], *, numbers: Collection[int] = ()) -> list[str]:
    """Return rows as lines of aligned columns: text to the left, columns at the indexes in `numbers` to the right."""
    printable = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*printable, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index in numbers else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in printable
    ]


def table_of_checks(checks: Sequence[Check]) -> list[str]:
    """Return the lines of a table with a row for each passed check and each finding; fixes have rows of their own."""
    rows = [("check", "state", "what")]
    for check in checks:
        if check.is_ok:
            rows.append((check.name, "ok", check.summary))
        for finding in check.findings:
            # a driver's message may have several lines
            rows.append((check.name, "TROUBLE", " ".join(finding.found.split())))
            rows.append(("", "", finding.means))
            rows += [("", "  fix:", command) for command in finding.fix]
    return to_columns(rows)
