"""Everything that can go wrong below the endpoints.

    TurnlogError
    ├── StoreError
    │   ├── StoreUnavailable   the store can't answer now; the same call may succeed later
    │   │   ├── StoreBusy      it answers, but not for this: a lock is held, or it took too long
    │   │   └── SpoolFull      it is away, and nothing more may be kept on this machine's disk
    │   ├── Misconfigured      a person has to change something first
    │   │   └── SchemaMissing  Turnlog's tables or functions aren't there, or are older ones
    │   ├── Invalid            the store refuses the data of a record, and will again
    │   └── Conflict           a unique rule is held by another row
    ├── SessionNotFound        nothing was ever logged under this id
    ├── FolderNotFound         there is no folder of this id
    ├── NotYours               the caller only reaches sessions of their own, and can't show that this is one
    └── SessionErased          it was there; a tombstone is left

A class's docstring is its default message.
"""

from collections.abc import Mapping


class TurnlogError(Exception):
    """Turnlog could not do what was asked."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class StoreError(TurnlogError):
    """The store failed."""


class StoreUnavailable(StoreError):  # noqa: N818 - states what is, as the store protocol's outcomes do
    """The store can't be reached or can't answer now."""

    #: Seconds after which asking again makes sense.
    retry_after = 2


class StoreBusy(StoreUnavailable):
    """The store answers, but what was asked is held up: somebody has a lock, or it takes too long."""


class SpoolFull(StoreUnavailable):
    """The store is away, and the spool has no room for more."""

    retry_after = 10


class Misconfigured(StoreError):  # noqa: N818
    """The store is reached, but not set up for Turnlog."""


class SchemaMissing(Misconfigured):
    """Turnlog's tables or functions are not in this database."""


class Invalid(StoreError):  # noqa: N818
    """The store refuses the data of a record."""

    def __init__(self, message: str = "", *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class Conflict(StoreError):  # noqa: N818
    """A unique rule is held by another row."""

    def __init__(
        self,
        message: str = "",
        *,
        constraint: str | None = None,
        columns: tuple[str, ...] = (),
        attempted: Mapping[str, str | None] | None = None,
    ) -> None:
        super().__init__(message)
        self.constraint = constraint
        self.columns = columns
        self.attempted = dict(attempted or {})


class SessionNotFound(TurnlogError):  # noqa: N818
    """There is no such session."""


class FolderNotFound(TurnlogError):  # noqa: N818
    """There is no such folder."""


class NotYours(TurnlogError):  # noqa: N818
    """This session can't be reached without its token."""


class SessionErased(TurnlogError):  # noqa: N818
    """This session was erased; nothing can be read from it or added to it."""

    def __init__(self, session_id: str, erased_at: str) -> None:
        super().__init__()
        self.session_id = session_id
        self.erased_at = erased_at
