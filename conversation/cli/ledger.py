"""`turnlog ledger`: compares what a client says it sent with what is stored, and finds gaps in turns."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from conversation.cli.base import echo, echo_json, new_command
from conversation.cli.columns import to_columns
from conversation.cli.context import open_repository

if TYPE_CHECKING:
    from conversation.proof.comparison import Comparison
    from logging_store import operations as ops
    from logging_store.repository import ConversationRepository

_SHOWN = 20  # findings per kind and gaps per session in the text output; --json has more
_SESSIONS_AT_ONCE = 1000
_RANGES = 1000  # the most gaps of one session that --json lists


@new_command(
    "ledger",
    examples=[
        ("ledger", "Find gaps and repeats in the turns that callers count"),
        ("ledger --client-file sent.jsonl", "Look up every record that a client says it sent"),
        ("ledger --session support-1234", "Look at one session"),
    ],
)
@click.option(
    "--client-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What a client sent, as JSON lines: bodies of POST /v1/interactions, with or without their receipts.",
)
@click.option("--session", help="Only this session, by its UUID or your own key.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document with all findings.")
def command(*, client_file: Path | None, session: str | None, as_json: bool) -> None:
    """Compare what a client sent with what is stored; without a file, list gaps in the turns that callers count.

    The exit status is 1 if anything is missing, differs or can't be read.
    """
    from conversation.proof import comparison as comparisons

    with open_repository() as repository:
        if client_file:
            comparison = comparisons.compare(
                repository, client_file, session=session, listed=None if as_json else _SHOWN
            )
            if as_json:
                echo_json(json.dumps(comparison.to_json()))
            else:
                echo(*_report(comparison))
            holds = comparison.holds
        else:
            holds = _show_gaps(repository, session, as_json=as_json)
    sys.exit(0 if holds else 1)


def _report(comparison: Comparison) -> list[str]:
    counts = {name: count for name, count in comparison.to_json().items() if name != "findings"}
    lines = to_columns([[name.replace("_", " "), f"{count:,}"] for name, count in counts.items()], numbers={1})
    for finding in comparison.findings:
        names = " ".join(
            json.dumps(name, ensure_ascii=False) for name in (finding.session_id, finding.interaction_id) if name
        )
        lines.append(
            f"{finding.verdict}: {names} ({finding.detail})" if names else f"{finding.verdict}: {finding.detail}"
        )
    lines.append("Every record sent is accounted for." if comparison.holds else "NOT every record sent is there.")
    return lines


def _show_gaps(repository: ConversationRepository, session: str | None, *, as_json: bool) -> bool:
    """Print the sessions with missing or doubled turns; return whether none is missing."""
    from logging_store import operations as ops

    ranges = _RANGES if as_json else _SHOWN
    if session is None:
        query = ops.GapsPageOptions(limit=_SESSIONS_AT_ONCE, ranges=ranges)
        found = [row for page in ops.pages(repository.sessions_with_gaps, query) for row in page["sessions"]]
    else:
        found = [_gaps_of(repository, session, ranges)]
    missing, doubled = (sum(row[count] for row in found) for count in ("missing", "doubled_count"))
    if as_json:
        sessions = [{name: value for name, value in row.items() if name != "erased_at"} for row in found]
        echo_json(json.dumps({"sessions": sessions, "missing": missing, "doubled": doubled}))
        return not missing
    if found:
        header = ["session", "first", "last", "missing", "doubled", "gaps"]
        echo(*to_columns([header, *(_gap_row(row) for row in found)], numbers={1, 2, 3, 4}))
    echo(
        f"{missing:,} turns missing and {doubled:,} doubled in {len(found):,} sessions."
        if found
        else "No session that counts its turns has a gap."
    )
    return not missing


def _gaps_of(repository: ConversationRepository, session: str, ranges: int) -> ops.Gaps:
    from logging_store.errors import SessionErased, SessionNotFound

    try:
        return repository.gaps(session, ranges)
    except (SessionNotFound, SessionErased) as error:
        raise click.ClickException(f"{session}: {error}") from error


def _gap_row(row: ops.Gaps) -> list[str]:
    gaps = [str(gap["from"]) if gap["from"] == gap["to"] else f"{gap['from']}–{gap['to']}" for gap in row["gaps"]]  # noqa: RUF001
    more = ["…"] if row["gap_count"] > len(gaps) else []
    counts = [str(count) for count in (row["first"], row["last"], row["missing"], row["doubled_count"])]
    return [row["key"] or row["session_id"], *counts, ", ".join([*gaps, *more])]
