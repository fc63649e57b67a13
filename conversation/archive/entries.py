"""What readers yield: documents, records, and what was rejected or repaired."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

from logging_store.batches import Kind
from logging_store.records.models import Feedback, Folder, Interaction, Participant, Record, Session

_KINDS: dict[type[Record], Kind] = {
    Interaction: "interactions",
    Session: "sessions",
    Participant: "participants",
    Folder: "folders",
    Feedback: "feedback",
}


class Location(NamedTuple):
    """A location in a source: a line or row number from 1 on; for documents of an array, an index from 0 on."""

    kind: Literal["line", "index", "sessions_row", "interactions_row"]
    number: int

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')} {self.number}"


class Document(NamedTuple):
    """One JSON object of a file."""

    location: Location
    value: dict[str, Any]


class RejectedEntry(NamedTuple):
    """A part of the source that can't be imported, and why. `text`: its content, if it was kept."""

    location: Location
    reason: str
    text: str | None = None


class ParsedRecord(NamedTuple):
    """One record of the source."""

    location: Location
    record: Record

    @property
    def kind(self) -> Kind:
        """Return the kind of the record."""
        return next(kind for model, kind in _KINDS.items() if isinstance(self.record, model))


class RepairedId(NamedTuple):
    """A session id that was missing, invalid or used before (`was`), and its replacement."""

    location: Location
    reason: str
    was: Any
    session_id: str


class MovedToMetadata(NamedTuple):
    """A value that its field can't hold, and why; it went to the record's metadata, under its column's name."""

    location: Location
    reason: str
    column: str


class InvalidDocumentError(Exception):
    """A document doesn't follow its format. The message says where."""


Entry = ParsedRecord | RejectedEntry | RepairedId | MovedToMetadata
Reader = Callable[[Iterable[Document | RejectedEntry]], Iterator[Entry]]
