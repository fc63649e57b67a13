"""Brings the recorded week into a project."""

from typing import NoReturn

from conversation.archive import documents, sources
from conversation.archive.formats import turnlog_lines
from conversation.archive.importing import Importer, Row, Tally
from conversation.archive.time_shift import TimeShift
from conversation.demo import RECORDING
from logging_store.errors import StoreError
from logging_store.repository import ConversationRepository


def is_empty(log: ConversationRepository) -> bool:
    """Return whether a project has neither sessions nor folders."""
    return not (log.sessions({"limit": 1})["sessions"] or log.folders({"limit": 1})["folders"])


def import_into(log: ConversationRepository) -> Tally:
    """Import the week, moved so that it ends now. Raises `StoreError` if a record can't be stored."""
    # the database was asked a moment ago: if it goes away now, nobody waits for it
    run = Importer(log.write, reject=_refuse, report=_refuse, on_outage=lambda *_: None, patience_s=0)
    with sources.open_source(RECORDING) as source:
        shift = TimeShift.to_now(turnlog_lines.read(documents.read(source.stream)))
    with sources.open_source(RECORDING) as source:
        for _ in run.run(shift.apply(turnlog_lines.read(documents.read(source.stream)))):
            pass
    return run.tally


def _refuse(row: Row) -> NoReturn:
    raise StoreError(f"A record of the demo can't be stored: {row}")
