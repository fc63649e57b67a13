"""Brings the recorded week into a project."""

from typing import NoReturn

from conversation.archive import documents, sources
from conversation.archive.formats import turnlog_lines
from conversation.archive.importing import Import, Row, Tally
from conversation.archive.shifting import Shift
from conversation.demo import RECORDING
from logging_store.errors import StoreError
from logging_store.repository import ConversationRepository


def is_empty(log: ConversationRepository) -> bool:
    """Tell whether a project has neither sessions nor folders."""
    return not (log.sessions({"limit": 1})["sessions"] or log.folders({"limit": 1})["folders"])


def import_into(log: ConversationRepository) -> Tally:
    """Import the week, moved so that it ends now. Raises `StoreError` if a record can't be stored."""
    # the database was asked a moment ago: if it goes away now, nobody waits for it
    run = Import(log.keep, reject=_refuse, report=_refuse, waiting=lambda *_: None, patience_s=0)
    with sources.opened(RECORDING) as source:
        shift = Shift.to_now(turnlog_lines.read(documents.read(source.stream)))
    with sources.opened(RECORDING) as source:
        for _ in run.run(shift.moved(turnlog_lines.read(documents.read(source.stream)))):
            pass
    return run.tally


def _refuse(row: Row) -> NoReturn:
    raise StoreError(f"A record of the demo can't be stored: {row}")
