"""What readers yield: documents, records, and what was rejected or repaired."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

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
    """One JSON object of a file. `size`: its bytes there."""

    location: Location
    value: dict[str, Any]
    altered: tuple[str, ...] = ()  # the paths of texts that had to be altered to be storable
    size: int = 0


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


class AlteredTexts(NamedTuple):
    """The paths of texts of a document that were altered so that they can be stored; at most a few of many."""

    location: Location
    paths: tuple[str, ...]


class PassedOver(NamedTuple):
    """A document that a format has beside its conversations, and what it is."""

    location: Location
    reason: str


@dataclass(frozen=True, slots=True)
class Target:
    """The log that is imported into. `known_sessions`: returns those of some ids and keys whose sessions are stored."""

    project: str
    known_sessions: Callable[[Sequence[str]], Collection[str]]


def _none(_: Sequence[str]) -> Collection[str]:
    return ()


class InvalidDocumentError(Exception):
    """A document doesn't follow its format. The message says where."""


class NoConversationError(Exception):
    """A document is something else that the format has beside its conversations. The message says what."""


Entry = ParsedRecord | RejectedEntry | RepairedId | MovedToMetadata | PassedOver | AlteredTexts
#: An empty log of the default project.
HERE = Target("default", _none)


class Reader(Protocol):
    """Reads the documents of a format as records."""

    def __call__(self, documents: Iterable[Document | RejectedEntry], target: Target = ..., /) -> Iterator[Entry]: ...
