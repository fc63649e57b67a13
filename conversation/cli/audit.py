"""`turnlog audit`: who read whose conversations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import click

from conversation.cli.base import echo, echo_json, new_command, next_step
from conversation.cli.context import current_settings, open_database
from conversation.cli.option_types import PROJECT

if TYPE_CHECKING:
    from logging_store import operations as ops

_SHOWN_IDS = 3  # of a row, in the table


@new_command(
    "audit",
    examples=[
        ("audit", "The latest reads"),
        ("audit --user-id ada --from 2026-11-01T00:00:00Z", "Who read ada's conversations this month"),
        ("audit --session support-1234 --json", "Who read one conversation, as JSON"),
    ],
)
@click.option("--project", type=PROJECT, help="The project.  [default: TURNLOG_PROJECT]")
@click.option("--session", help="Only reads of this session, by its UUID or your own key.")
@click.option("--user-id", help="Only reads of this user's conversations.")
@click.option("--reader", help="Only what this reader read: the id of a key, or a user.")
@click.option("--from", "not_before", help="Only reads from this time on.")
@click.option("--to", "before", help="Only reads before this time.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="The most rows.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")  # fmt: skip
def command(*, project: str | None, limit: int, as_json: bool, **filters: str | None) -> None:
    """List who read whose conversations, latest first.

    The service records reads where TURNLOG_AUDIT_READS is set.
    """
    from conversation.cli.columns import to_columns
    from logging_store import operations as ops

    settings = current_settings()
    project = project or settings.turnlog_project
    query: ops.ReadsQuery = {**_query(project, filters), "limit": limit}
    with open_database() as database:
        found = database.ask(ops.READS, project, query)["reads"]
    if as_json:
        echo_json(json.dumps({"reads": found}))
        return
    echo(*to_columns([["at", "reader", "call", "asked for", "sessions"], *(_row(read) for read in found)]))
    if not found and not settings.turnlog_audit_reads:
        next_step("export TURNLOG_AUDIT_READS=true  # for the service, to record reads from now on")


def _query(project: str, filters: dict[str, str | None]) -> ops.ReadsQuery:
    """Return the filters in the store's form, validated as the API's are."""
    from pydantic import ValidationError

    from conversation.api.pagination import AuditQuery
    from conversation.refusals import validation_messages
    from logging_store.records import identity

    names = {"not_before": "from", "before": "to"}
    given = {names.get(name, name): text for name, text in filters.items() if text is not None}
    try:
        query = AuditQuery.model_validate(given).to_json()
    except ValidationError as error:
        (details, *_) = error.errors()
        option = str(details["loc"][0]).replace("_", "-")
        raise click.UsageError(f"--{option}: {validation_messages.sentence(details, AuditQuery, 'option')}") from None
    if (session := query.pop("session", None)) is not None:
        query["session_id"] = identity.session(project, session).id
    return cast("ops.ReadsQuery", query)


def _row(read: ops.Read) -> list[str]:
    reader = read["reader"] or read["key_id"] or ""
    ids = read["session_ids"]
    more = f" and {len(ids) - _SHOWN_IDS:,} more" if len(ids) > _SHOWN_IDS else ""
    return [
        read["at"][:19].replace("T", " "),
        f"{read['kind']} {reader}".strip(),
        read["call"],
        read["user_id"] or "",
        ", ".join(ids[:_SHOWN_IDS]) + more,
    ]
