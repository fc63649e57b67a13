"""What a file says, piece by piece: what its documents hold, what can't be read, and what was repaired on the way."""

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


class Place(NamedTuple):
    """Where it stands: a line or a table's row from 1 on; in an array, or of a document, an index from 0 on."""

    kind: Literal["line", "index", "sessions_row", "interactions_row"]
    number: int

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')} {self.number}"


class Document(NamedTuple):
    """One JSON object of a file."""

    place: Place
    value: dict[str, Any]


class Refused(NamedTuple):
    """What can't be taken in, and why. `text`: what stood there, as far as it was kept."""

    place: Place
    reason: str
    text: str | None = None


class Stated(NamedTuple):
    """One record that the file states."""

    place: Place
    record: Record

    @property
    def kind(self) -> Kind:
        """Return what the record is one of."""
        return next(kind for model, kind in _KINDS.items() if isinstance(self.record, model))


class Repaired(NamedTuple):
    """An id that was missing or used before, and the one that the conversation has now."""

    place: Place
    reason: str
    was: Any
    session_id: str


class KeptAside(NamedTuple):
    """A value that its field can't hold, and why; it is kept in the record's metadata, under its column's name."""

    place: Place
    reason: str
    column: str


Entry = Stated | Refused | Repaired | KeptAside
Reader = Callable[[Iterable[Document | Refused]], Iterator[Entry]]
