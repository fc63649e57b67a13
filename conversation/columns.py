"""Rows of text set in columns, as operators read them."""

from collections.abc import Collection, Sequence


def in_columns(rows: Sequence[Sequence[str]], *, numbers: Collection[int] = ()) -> str:
    """Set rows of text in columns: words to the left, `numbers` to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index in numbers else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
