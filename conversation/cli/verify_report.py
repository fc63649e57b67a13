"""`turnlog verify-report`: verifies that an erasure report is from this service and unchanged."""

from __future__ import annotations

from typing import BinaryIO

import click

from conversation.cli.base import echo, new_command
from conversation.cli.context import open_database


@new_command("verify-report", examples=[("verify-report report.json", "Check the report that an erasure returned")])
@click.argument("file", type=click.File("rb"))
def command(*, file: BinaryIO) -> None:
    """Verify a signed erasure report. FILE is the JSON that an erasure returned; - is standard input.

    Prints the query that counts what is left of the erased data: run it with `turnlog psql -c`.
    """
    import jiter

    from logging_store import erasure_reports
    from logging_store import operations as ops

    try:
        report = jiter.from_json(file.read(), catch_duplicate_keys=True)
    except ValueError as error:
        raise click.ClickException(f"{file.name} is not a report, which is one JSON object: {error}") from error
    if not (isinstance(report, dict) and isinstance(project := report.get("project"), str)):
        raise click.ClickException(f"{file.name} is not a report: it names no project")
    with open_database() as database:
        # the query creates a missing key, which must not happen for a made-up project name
        known = database.ask(ops.PROJECTS, project, ops.NoQuery())["projects"]
        right = bool(known) and erasure_reports.verify(
            report, database.ask(ops.REPORT_KEY, project, ops.NoQuery())["key"]
        )
    if not right:
        raise click.ClickException("The report was changed, or another database's service signed it")
    what = f"user {report['user_id']}" if "user_id" in report else f"session {report['session_id']}"
    done = "A DRY RUN, which erased nothing" if report["dry_run"] else f"Erased at {report['erased_at']}"
    echo(f"The report is unchanged since it was signed. {done}: {what} of the project {project}.")
    echo("This query counts what is left of it, and should answer 0:", report["proof"])
