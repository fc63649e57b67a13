"""All errors of the store and the repository.

    TurnlogError
    ├── StoreError
    │   ├── StoreUnavailable   the store can't answer now; the same call may succeed later
    │   │   ├── StoreBusy      it answers, but this call took too long
    │   │   │   └── StoreLocked   it waited for another transaction's lock
    │   │   ├── StoreTimeout   it didn't answer this call in time: it is slow, or away
    │   │   ├── StoreReconnecting  Supabase's API answers, but is reconnecting to its database
    │   │   ├── StoreReadOnly  it answers reads and accepts no writes
    │   │   └── SpoolFull      it is away, and this machine's disk may hold no more
    │   ├── Misconfigured      a person has to change something first
    │   │   └── SchemaMissing  Turnlog's tables or functions are missing or outdated
    │   ├── OtherDatabase      spooled records were acknowledged for another database than the one that answers
    │   ├── Invalid            the store rejects a record's data, and always will
    │   └── Conflict           another row holds a unique key
    ├── SessionNotFound        no session has this id
    ├── InteractionNotFound    no interaction of the session has this id
    ├── FolderNotFound         no folder has this id
    ├── AlreadyMerged          the guest was merged into another user
    ├── NotOwner               the caller may only reach its own sessions, and this isn't one
    └── SessionErased          the session was erased and left a tombstone

A class's docstring is its default message.
"""

from collections.abc import Mapping


class TurnlogError(Exception):
    """The request failed."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class StoreError(TurnlogError):
    """The store failed."""


class StoreUnavailable(StoreError):  # noqa: N818 - named after the state, as the outcomes are
    """The store can't be reached or can't answer now."""

    #: Seconds after which a retry makes sense.
    retry_after = 2


class StoreBusy(StoreUnavailable):
    """The store answers, but this call took too long."""


class StoreLocked(StoreBusy):
    """The store answers, but another transaction holds a lock that this call needs."""


class StoreTimeout(StoreUnavailable):
    """The store didn't answer this call in time; only a ping tells whether it is away."""


class StoreReconnecting(StoreUnavailable):
    """Supabase's API answers, but has lost its connections to the database and is opening new ones."""

    retry_after = 5  # it takes the API from one second to half a minute


class StoreReadOnly(StoreUnavailable):
    """The database is read-only: a standby, or its disk is full."""


class SpoolFull(StoreUnavailable):
    """The store is away, and the spool has no room for more."""

    retry_after = 10


class Misconfigured(StoreError):  # noqa: N818
    """The store answers, but isn't set up for Turnlog."""


class SchemaMissing(Misconfigured):
    """Turnlog's tables or functions are not in this database."""


class OtherDatabase(StoreError):  # noqa: N818
    """These records were acknowledged for another database than the one that answers."""


class Invalid(StoreError):  # noqa: N818
    """The store rejects the data of a record."""

    def __init__(self, message: str = "", *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class Conflict(StoreError):  # noqa: N818
    """Another row holds a unique key."""

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


class InteractionNotFound(TurnlogError):  # noqa: N818
    """There is no such interaction in this session."""


class FolderNotFound(TurnlogError):  # noqa: N818
    """There is no such folder."""


class AlreadyMerged(TurnlogError):  # noqa: N818
    """This guest was merged into another user."""

    def __init__(self, into: str) -> None:
        super().__init__()
        self.into = into


class NotOwner(TurnlogError):  # noqa: N818
    """This session needs its own token."""


class SessionErased(TurnlogError):  # noqa: N818
    """This session was erased; it can neither be read nor written."""

    def __init__(self, session_id: str, erased_at: str) -> None:
        super().__init__()
        self.session_id = session_id
        self.erased_at = erased_at
