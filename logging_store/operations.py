"""The operations of a store: for each its query and its answer.

An operation is the SQL function of its name in the schema `turnlog`, called with the project and the query as one JSON
object; the files of supabase/schemas describe each of them. Times are ISO 8601 texts in UTC, ids are UUIDs in text.
A page may be short, or empty: `after` is the cursor of the next one, and None on the last one.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NotRequired, TypedDict, TypeVar, cast

from logging_store.errors import Invalid
from logging_store.records.models import InteractionStatus, ParticipantState, SessionStatus

Q = TypeVar("Q", bound=Mapping[str, Any])
A = TypeVar("A")
OperationName = Literal[
    "session", "sessions", "sessions_by_id", "count_sessions", "recent", "transcript", "outline", "conversation",
    "search", "gaps", "folder", "folders", "participants", "participations", "feedback", "overview", "edit", "erase",
    "erase_user", "purge_project", "report_key", "key", "origins", "keys", "create_key", "revoke_key", "rotate_key",
    "projects", "set_project", "expirable", "expire", "expire_folders", "index_pending", "reindex", "ping",
    "catalogue", "access", "settings", "identities", "table", "inspect_table", "mend_table",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation(Generic[Q, A]):
    """An operation, whose query is a `Q` and whose answer is an `A`: `store.ask(SESSION, project, {"session_id": id})`.

    `bounds`: defaults of the fields that limit the work of one call. `ms` never exceeds a third of the deadline.
    """

    name: OperationName
    bounds: dict[str, float] = field(default_factory=dict)

    def request(self, project: str | None, query: Q, deadline_s: float) -> dict[str, Any]:
        """Return the function's argument. `project`: None for operations on all projects."""
        request = {**self.bounds, **({} if project is None else {"project": project}), **query}
        if "ms" in self.bounds:
            request["ms"] = min(request["ms"], deadline_s * 1000 / 3)
        return request


class NoQuery(TypedDict):
    """The empty query."""


class SessionQuery(TypedDict):
    session_id: str


class PageQuery(TypedDict):
    """`limit`: the most rows of a page."""

    limit: int


_Span = TypedDict("_Span", {"from": NotRequired[str], "to": NotRequired[str]})  # from <= time < to


class SessionCursor(TypedDict):
    """A position in a list of sessions by time."""

    at: str
    session_id: str


class TurnCursor(TypedDict):
    """A position in a transcript. `turn`: 2**63 - 1 for interactions without one, which come last."""

    turn: int
    at: str
    interaction_id: str


class InteractionCursor(SessionCursor):
    """A position in a list of interactions of all sessions, by time."""

    interaction_id: str


class NumberCursor(TypedDict):
    """A position in a folder. `number`: 2**31 - 1 for sessions without one, which come last."""

    number: int
    session_id: str


class FeedbackCursor(TypedDict):
    """A position in a list of feedback. `author`: empty for the user of the session."""

    session_id: NotRequired[str]
    interaction_id: str
    author: str
    name: str


class SessionRef(TypedDict):
    """A session's names; `erased_at` is set on a tombstone."""

    session_id: str
    key: str | None
    erased_at: str | None


class Session(SessionRef):
    """A session with its derived counts.

    `owner`: as `Ownership.owner_of` returns it. `failed_count`: interactions with the status failed.
    """

    user_id: str | None
    title: str | None
    folder_id: str | None
    session_number: int | None
    scheduled_on: str | None
    status: SessionStatus
    implicit: bool
    tags: list[str]
    metadata: dict[str, Any]
    started_at: str | None
    ended_at: str | None
    created_at: str
    owner: str | None
    interaction_count: int
    failed_count: int
    last_activity_at: str | None


#: The session of an answer: None if there is no such session.
S = TypeVar("S", bound=SessionRef | None)


class Interaction(TypedDict):
    """`spooled`: a part of it is still on this machine's disk only."""

    interaction_id: str
    key: str | None
    session_id: str
    prompt: str | list[dict[str, Any]] | None
    response: str | list[dict[str, Any]] | None
    model: str | None
    provider: str | None
    status: InteractionStatus
    error: str | None
    finish_reason: str | None
    started_at: str | None
    completed_at: str | None
    latency_ms: float | None
    time_to_first_token_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    cached_input_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: float | None
    participant: str | None
    reply_to: str | None
    alternative_to: str | None
    turn: int | None
    tags: list[str]
    metadata: dict[str, Any]
    created_at: str
    spooled: bool


class Participant(TypedDict):
    """`state`: None while it is unknown. `spooled`: a part of it is still on this machine's disk only."""

    participant: str
    role: str | None
    state: ParticipantState | None
    created_at: str
    spooled: bool


class Feedback(TypedDict):
    """One author's feedback on an interaction under one name; `author` is None for the user of the session."""

    session_id: str
    session_key: str | None
    interaction_id: str
    interaction_key: str | None
    author: str | None
    name: str
    value: Any
    comment: str | None
    given_at: str
    created_at: str
    spooled: bool


class Plan(TypedDict):
    sessions_per_week: int
    total_weeks: int
    starts_on: str | None


class FolderStatistics(TypedDict):
    """Counts of sessions: `planned` by the plan, `opened` if not locked or with interactions, `closed` among these."""

    planned: int
    sessions: int
    opened: int
    closed: int
    interactions: int
    last_activity_at: str | None


class Folder(TypedDict):
    folder_id: str
    key: str | None
    name: str | None
    user_id: str | None
    plan: Plan | None
    metadata: dict[str, Any]
    implicit: bool
    created_at: str
    statistics: FolderStatistics


F = TypeVar("F", bound=Folder | None)


# Reading


class SessionFilters(_Span):
    """Filters of a list of sessions.

    A session's time is its `started_at`, or `created_at` without one. `unclaimed`: only sessions without a claim.
    `begun`: not locked. `name`: a part of the title or the key, ignoring case.
    """

    user_id: NotRequired[str]
    unclaimed: NotRequired[bool]
    folder_id: NotRequired[str]
    tag: NotRequired[str]
    status: NotRequired[SessionStatus]
    implicit: NotRequired[bool]
    model: NotRequired[str]
    has_errors: NotRequired[bool]
    begun: NotRequired[bool]
    name: NotRequired[str]


class SessionsQuery(SessionFilters, PageQuery):
    """`sort`: by time, or by `activity`, the arrival of the last interaction; sessions without any are left out."""

    sort: NotRequired[Literal["newest", "oldest", "activity"]]
    after: NotRequired[SessionCursor | None]


class SessionsPage(TypedDict):
    sessions: list[Session]
    after: SessionCursor | None


class IdFilters(_Span):
    user_id: NotRequired[str]
    tag: NotRequired[str]
    status: NotRequired[SessionStatus]


class SessionsByIdQuery(IdFilters, PageQuery):
    """Ordered by id, which never changes: paging returns each session that existed at its start exactly once."""

    after: NotRequired[str | None]


class SessionsByIdPage(TypedDict):
    sessions: list[Session]
    after: str | None


class SessionCount(TypedDict):
    """How many sessions match the filters; there may be more unless `complete`."""

    sessions: int
    complete: bool


class RecentQuery(_Span, PageQuery):
    """Ordered by arrival, newest first; with `from` or `to` by start, newest first.

    `error`: only interactions with this error, in the form of `ErrorKind`.
    """

    model: NotRequired[str]
    has_errors: NotRequired[bool]
    error: NotRequired[str]
    after: NotRequired[InteractionCursor | None]


class RecentInteraction(TypedDict):
    """An interaction of any session, with the first 300 characters of its texts."""

    interaction_id: str
    session_id: str
    session_key: str | None
    title: str | None
    user_id: str | None
    participant: str | None
    turn: int | None
    model: str | None
    provider: str | None
    status: InteractionStatus
    error: str | None
    finish_reason: str | None
    prompt: str | None
    response: str | None
    latency_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    erased_at: str | None
    started_at: str | None
    created_at: str


class RecentPage(TypedDict):
    interactions: list[RecentInteraction]
    after: InteractionCursor | None


class TranscriptOptions(PageQuery):
    """Ordered by turn, time and id; with `by` "id" by id alone, which never changes."""

    after: NotRequired[TurnCursor | None]
    by: NotRequired[Literal["id"]]


class TranscriptQuery(TranscriptOptions, SessionQuery):
    pass


class TranscriptPage(TypedDict, Generic[S]):
    """Not `complete`: further interactions may be on this machine's disk only."""

    session: S
    interactions: list[Interaction]
    after: TurnCursor | None
    complete: bool


class OutlineOptions(PageQuery):
    """Which page of a transcript: the one with `interaction_id`, `after` a cursor, or `before` one, else the first.

    At most one of the three is given.
    """

    interaction_id: NotRequired[str]
    after: NotRequired[TurnCursor]
    before: NotRequired[TurnCursor]


class OutlineQuery(OutlineOptions, SessionQuery):
    pass


class Unpriced(TypedDict):
    """Interactions that have tokens and no cost."""

    interactions: int
    input_tokens: int | None
    output_tokens: int | None


class ModelOfSession(TypedDict):
    model: str | None
    provider: str | None
    interactions: int
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    unpriced: Unpriced


class Outline(TypedDict):
    """Where a page of a transcript begins, and totals of the whole transcript, without spooled interactions.

    `index`: interactions before the page. `after`: the cursor with which `transcript` reads the page; `context`: the
    cursor one interaction earlier. `states`: counts by status.
    """

    total: int
    index: int
    after: TurnCursor | None
    context: TurnCursor | None
    models: list[ModelOfSession]
    states: dict[InteractionStatus, int]


class ParticipantsPage(TypedDict, Generic[S]):
    """Ordered by arrival."""

    session: S
    participants: list[Participant]


class FeedbackOptions(PageQuery):
    """`interaction_ids`: only feedback on these. `author`: only this author's feedback."""

    interaction_ids: NotRequired[list[str]]
    author: NotRequired[str]
    after: NotRequired[FeedbackCursor | None]


class FeedbackQuery(FeedbackOptions):
    """Without a session: an author's feedback in sessions of other users."""

    session_id: NotRequired[str]


class FeedbackPage(TypedDict, Generic[S]):
    """Ordered by ids."""

    session: S
    feedback: list[Feedback]
    after: FeedbackCursor | None


class FolderOptions(PageQuery):
    after: NotRequired[NumberCursor | None]


class FolderQuery(FolderOptions):
    folder_id: str


class FolderPage(TypedDict, Generic[F]):
    """A folder with a page of its sessions, ordered by number."""

    folder: F
    sessions: list[Session]
    after: NumberCursor | None


class FoldersQuery(PageQuery):
    user_id: NotRequired[str]
    after: NotRequired[str | None]


class FoldersPage(TypedDict):
    """Ordered by id."""

    folders: list[Folder]
    after: str | None


class ConversationOptions(OutlineOptions):
    """A page of a session with everything that is shown beside it.

    `neighbours`: the most sessions of its folder, from the one before it on; none if left out.
    `feedback`: the most feedback on the page's interactions.
    """

    neighbours: NotRequired[int]
    feedback: int


class ConversationQuery(ConversationOptions, SessionQuery):
    """`owner`: the owner that the session must have. `author`: return this author's feedback only."""

    owner: NotRequired[str]
    author: NotRequired[str]


class Conversation(TypedDict, Generic[S]):
    """A session with the answers of the operations of these names.

    They are None for a tombstone and for a session with another owner; while the store is away some of them are None.
    The transcript begins with the interaction before the page, if there is one.
    """

    session: S
    outline: Outline | None
    transcript: TranscriptPage[SessionRef | None] | None
    participants: ParticipantsPage[SessionRef | None] | None
    folder: FolderPage[Folder | None] | None
    feedback: FeedbackPage[SessionRef | None] | None


class SearchFilters(_Span, PageQuery):
    """Interactions that contain all terms; without terms, any. `words`: match whole words only."""

    terms: list[str]
    order: NotRequired[Literal["newest", "match"]]
    words: NotRequired[bool]
    user_id: NotRequired[str]
    unclaimed: NotRequired[bool]
    session_id: NotRequired[str]
    model: NotRequired[str]
    after: NotRequired[InteractionCursor | None]


class SearchQuery(SearchFilters):
    """Limits of one call: it scans at most `rows` interactions, for about `ms`; the `first` newest before the index."""

    rows: NotRequired[int]
    ms: NotRequired[float]
    first: NotRequired[int]


class SearchHit(TypedDict):
    """`text`: an extract of `field` around the first term, from character `starts` on; the field has `length`."""

    session_id: str
    session_key: str | None
    session_title: str | None
    user_id: str | None
    interaction_id: str
    interaction_key: str | None
    turn: int | None
    at: str
    model: str | None
    field: Literal["prompt", "response"] | None
    starts: int
    length: int | None
    text: str | None


class SearchPage(TypedDict):
    """Not `complete`: the call hit a limit before it had scanned everything. `searched_to`: how far back it got."""

    interactions: list[SearchHit]
    after: InteractionCursor | None
    complete: bool
    searched: int
    matched: int
    searched_to: str | None


class GapsOptions(TypedDict):
    """`ranges`: the most gaps, and the most doubled turns, listed per session."""

    ranges: int


class GapsPageOptions(GapsOptions, PageQuery):
    """Of the next `limit` sessions, those with a missing or a doubled turn."""

    after: NotRequired[str | None]


class GapsQuery(GapsOptions):
    """One session, with or without gaps; without a session as `GapsPageOptions`."""

    session_id: NotRequired[str]
    limit: NotRequired[int]
    after: NotRequired[str | None]


TurnRange = TypedDict("TurnRange", {"from": int, "to": int})  # inclusive


class DoubledTurn(TypedDict):
    turn: int
    interactions: int


class Gaps(SessionRef):
    """Missing and doubled turns of a session between `first` and `last`, its lowest and its highest turn."""

    first: int | None
    last: int | None
    counted: int
    missing: int
    gap_count: int
    gaps: list[TurnRange]
    doubled_count: int
    doubled: list[DoubledTurn]


class GapsPage(TypedDict):
    sessions: list[Gaps]
    after: str | None


class ParticipationsOptions(PageQuery):
    after: NotRequired[str | None]


class ParticipationsQuery(ParticipationsOptions):
    """Sessions of other users that a user takes part in, ordered by id."""

    user_id: str


_WholeSpan = TypedDict("_WholeSpan", {"from": str, "to": str})


class OverviewQuery(_WholeSpan):
    """Buckets of `bucket_s` seconds since 1970. Beyond `most` rows (`most_failures` failures) about `sample` are read.

    `top`: how many users, folders and errors are listed; `top_models`: how many models. `tiers`: input sizes, in
    tokens, at which prices change.
    """

    bucket_s: int
    most: int
    sample: int
    most_failures: int
    top: int
    top_models: int
    tiers: list[int]


class _Share(TypedDict):
    """`share`: the fraction of the span that was read; counts and sums are of that fraction."""

    share: float


class InteractionsTotal(TypedDict):
    """`priced`: interactions with a cost; `cost_usd` is the sum of these. Latencies are [p50, p95]."""

    interactions: int
    completed: int
    failed: int
    pending: int
    abandoned: int
    input_tokens: int
    output_tokens: int
    priced: int
    cost_usd: float
    models: int
    latency_ms: list[float | None] | None
    time_to_first_token_ms: list[float | None] | None


class InteractionsBucket(TypedDict):
    at: str
    interactions: int
    latency_ms: list[float | None] | None


class ModelSize(TypedDict):
    """A model's interactions without a cost, with an input between two tiers."""

    interactions: int
    input_tokens: int
    output_tokens: int


class ModelActivity(TypedDict):
    model: str | None
    provider: str | None
    interactions: int
    input_tokens: int
    output_tokens: int
    priced: int
    cost_usd: float
    sizes: list[ModelSize]


class UserActivity(TypedDict):
    user_id: str
    interactions: int
    sessions: int


class FolderActivity(TypedDict):
    folder_id: str
    key: str | None
    name: str | None
    interactions: int
    sessions: int


class InteractionsOverview(_Share):
    total: InteractionsTotal
    buckets: list[InteractionsBucket]
    models: list[ModelActivity]
    users: list[UserActivity]
    folders: list[FolderActivity]


class FailuresBucket(TypedDict):
    at: str
    failed: int


class ErrorKind(TypedDict):
    """Errors that only differ in ids and numbers; None: failures without an error."""

    error: str | None
    interactions: int


class FailuresOverview(_Share):
    total: int
    buckets: list[FailuresBucket]
    errors: list[ErrorKind]


class SessionsBucket(TypedDict):
    at: str
    sessions: int


class SessionsOverview(_Share):
    total: int
    buckets: list[SessionsBucket]


class Overview(TypedDict):
    """Statistics of what began in a span of time."""

    interactions: InteractionsOverview
    failures: FailuresOverview
    sessions: SessionsOverview


SESSION: Operation[SessionQuery, Session | None] = Operation("session")
SESSIONS: Operation[SessionsQuery, SessionsPage] = Operation("sessions")
SESSIONS_BY_ID: Operation[SessionsByIdQuery, SessionsByIdPage] = Operation("sessions_by_id")
COUNT_SESSIONS: Operation[SessionFilters, SessionCount] = Operation("count_sessions")
RECENT: Operation[RecentQuery, RecentPage] = Operation("recent")
TRANSCRIPT: Operation[TranscriptQuery, TranscriptPage[SessionRef | None]] = Operation("transcript")
OUTLINE: Operation[OutlineQuery, Outline] = Operation("outline")
CONVERSATION: Operation[ConversationQuery, Conversation[Session | None]] = Operation("conversation")
SEARCH: Operation[SearchQuery, SearchPage] = Operation("search", {"rows": 1_000_000, "ms": 1500, "first": 300})
GAPS: Operation[GapsQuery, GapsPage] = Operation("gaps")
FOLDER: Operation[FolderQuery, FolderPage[Folder | None]] = Operation("folder")
FOLDERS: Operation[FoldersQuery, FoldersPage] = Operation("folders")
PARTICIPANTS: Operation[SessionQuery, ParticipantsPage[SessionRef | None]] = Operation("participants")
PARTICIPATIONS: Operation[ParticipationsQuery, SessionsByIdPage] = Operation("participations")
FEEDBACK: Operation[FeedbackQuery, FeedbackPage[SessionRef | None]] = Operation("feedback")
OVERVIEW: Operation[OverviewQuery, Overview] = Operation("overview")


# Editing and erasing


class EditQuery(SessionQuery):
    """`changes`: field -> new value; None empties the field."""

    changes: dict[str, Any]


class EraseQuery(SessionQuery):
    """`dry_run`: only count. `ensure`: leave a tombstone even of an unknown session. `most`: interactions per call."""

    dry_run: NotRequired[bool]
    ensure: NotRequired[bool]
    most: NotRequired[int]


class LocallyErased(TypedDict):
    """Records erased from this machine's disk. `unreadable_files`: corrupt spool files, which weren't cleaned."""

    spooled: NotRequired[int]
    dead_letters: NotRequired[int]
    unreadable_files: NotRequired[int]


class Erased(LocallyErased):
    """What a call erased, or would erase. `left`: more remains. `proof`: SQL that counts what remains."""

    session_id: str
    erased_at: str | None
    interactions: int
    participants: int
    feedback: int
    folder_id: str | None
    session_number: int | None
    left: bool
    proof: str


class EraseUserQuery(TypedDict):
    """`begin` on the first call; or `dry_run`, which only counts, one page per call.

    `spooled_sessions`: those that spooled records assign to this user; `trusted_sessions`: those of them that the
    service itself assigned, not only a claim. `among`: a dry run returns which of these sessions are the user's.
    """

    user_id: str
    begin: NotRequired[bool]
    dry_run: NotRequired[bool]
    spooled_sessions: NotRequired[list[str]]
    trusted_sessions: NotRequired[list[str]]
    among: NotRequired[list[str]]
    after: NotRequired[Any]
    most: NotRequired[int]
    limit: NotRequired[int]


class UserErased(LocallyErased):
    """Totals of all calls since the one with `begin`; of a dry run, counts of this page.

    `session_ids`: sessions that became tombstones in this call.
    """

    erased_at: str | None
    sessions: int
    interactions: int
    participants: int
    feedback: int
    participations: int
    turns: int
    folders: int
    session_ids: list[str]
    left: bool
    proof: str
    after: NotRequired[Any]


class PurgeProjectQuery(TypedDict):
    limit: NotRequired[int]


class ProjectPurged(TypedDict):
    """What a call deleted of a selftest's project; `left`: remaining rows."""

    sessions: int
    interactions: int
    left: int


#: Bounded, so that nobody waits long for the locks of what is being erased.
EDIT: Operation[EditQuery, Session | None] = Operation("edit")
ERASE: Operation[EraseQuery, Erased | None] = Operation("erase", {"most": 20_000})
ERASE_USER: Operation[EraseUserQuery, UserErased] = Operation("erase_user", {"most": 2_000, "limit": 500})
PURGE_PROJECT: Operation[PurgeProjectQuery, ProjectPurged] = Operation("purge_project", {"limit": 10_000})


# Administration


class ReportKey(TypedDict):
    """The key that signs a project's reports, in hexadecimal digits; the same on all machines."""

    key: str


class StoredKey(TypedDict):
    """An API key. `family`: the first of the keys that replaced each other. `hint`: the key's first characters.

    `token_secret`: signs the session tokens of the family; only returned by `KEY`.
    """

    project: str
    id: str
    family: str
    kind: Literal["secret", "publishable"]
    hint: str
    name: str | None
    scopes: list[str]
    origins: list[str]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None
    token_secret: NotRequired[str]


class KeyQuery(TypedDict):
    """`digest`: the key's SHA-256 in hexadecimal digits."""

    digest: str


class Origins(TypedDict):
    """The origins of all pages that may use a key."""

    origins: list[str]


class KeysQuery(TypedDict):
    project: NotRequired[str]


class Keys(TypedDict):
    """Oldest first."""

    keys: list[StoredKey]


class CreateKeyQuery(TypedDict):
    """`first`: only create the key if there is none at all; else the answer is None."""

    key: dict[str, Any]
    first: bool


class KeyIdQuery(TypedDict):
    id: str


class RotateKeyQuery(KeyIdQuery):
    """Replace a key, which expires after `overlap_s` seconds."""

    overlap_s: float
    key: Mapping[str, str | None]


class KeyRotated(TypedDict):
    key: StoredKey
    replaced: StoredKey


class Project(TypedDict):
    """`keep_days`: None for the service's own setting. `now`: the database's clock."""

    project: str
    keep_days: int | None
    now: str


class Projects(TypedDict):
    """Projects with records or with a setting."""

    projects: list[Project]


class SetProjectQuery(TypedDict):
    keep_days: int | None


class _Idle(TypedDict):
    """Idle since `before`. `except`: sessions and folders with spooled records."""

    before: str


_Except = TypedDict("_Except", {"except": NotRequired[list[str]]})


class ExpirableQuery(_Idle, _Except, PageQuery):
    after: NotRequired[str | None]


class Expirable(TypedDict):
    session_ids: list[str]
    interactions: int
    after: str | None


class ExpireQuery(_Idle, _Except):
    """`most`: interactions per call. `wait`: wait for locks of other transactions."""

    session_ids: list[str]
    most: int
    wait: NotRequired[bool]


class Expired(TypedDict):
    """`locked`: sessions that another transaction has locked. `left`: more remains."""

    session_ids: list[str]
    interactions: int
    locked: list[str]
    left: bool


class ExpireFoldersQuery(_Idle, _Except, PageQuery):
    dry_run: bool
    after: NotRequired[str | None]


class FoldersExpired(TypedDict):
    folders: int
    after: str | None


class IndexQuery(TypedDict):
    """`ms`: about how long a call may take."""

    ms: float


class Indexed(TypedDict):
    """How many interactions were indexed, and whether more are pending."""

    indexed: int
    left: bool


class ReindexQuery(PageQuery):
    after: Mapping[str, Any] | None


class ReindexStep(TypedDict):
    queued: int
    after: Mapping[str, Any] | None


class TablesQuery(TypedDict):
    tables: list[str]


class ServerSettings(TypedDict):
    """The schema's version, and the settings on which durability depends, as PostgreSQL reports them: `"on"`.

    `rows_hidden`: row-level security hides the tables from this role.
    """

    schema: str
    server_version: str
    read_only: bool
    fsync: str
    synchronous_commit: str
    full_page_writes: str
    transaction_isolation: str
    rows_hidden: bool


class SettingsQuery(TypedDict):
    settings: list[str]


REPORT_KEY: Operation[NoQuery, ReportKey] = Operation("report_key")
KEY: Operation[KeyQuery, StoredKey | None] = Operation("key")
ORIGINS: Operation[NoQuery, Origins] = Operation("origins")
KEYS: Operation[KeysQuery, Keys] = Operation("keys")
CREATE_KEY: Operation[CreateKeyQuery, StoredKey | None] = Operation("create_key")
REVOKE_KEY: Operation[KeyIdQuery, StoredKey | None] = Operation("revoke_key")
ROTATE_KEY: Operation[RotateKeyQuery, KeyRotated | None] = Operation("rotate_key")
PROJECTS: Operation[NoQuery, Projects] = Operation("projects")
SET_PROJECT: Operation[SetProjectQuery, dict[str, Any]] = Operation("set_project")
EXPIRABLE: Operation[ExpirableQuery, Expirable] = Operation("expirable")
EXPIRE: Operation[ExpireQuery, Expired] = Operation("expire")
EXPIRE_FOLDERS: Operation[ExpireFoldersQuery, FoldersExpired] = Operation("expire_folders")
INDEX_PENDING: Operation[IndexQuery, Indexed] = Operation("index_pending")
REINDEX: Operation[ReindexQuery, ReindexStep] = Operation("reindex")
PING: Operation[NoQuery, ServerSettings] = Operation("ping")
#: Checks of the database itself, which conversation/doctor evaluates.
CATALOGUE: Operation[TablesQuery, dict[str, Any]] = Operation("catalogue")
ACCESS: Operation[TablesQuery, dict[str, Any]] = Operation("access")
SETTINGS: Operation[SettingsQuery, dict[str, Any]] = Operation("settings")
IDENTITIES: Operation[dict[str, Any], dict[str, Any]] = Operation("identities")


class _Paged(TypedDict):
    after: Any


_Page = TypeVar("_Page", bound=_Paged)


def pages(read: Callable[[Q], _Page], query: Q) -> Iterator[_Page]:
    """Yield all pages of a list. `read`: returns the page of a query."""
    while True:
        page = read(query)
        yield page
        if page["after"] is None:
            return
        query = cast("Q", {**query, "after": page["after"]})


_Limited = TypeVar("_Limited", bound=PageQuery)


def read_shrinking(read: Callable[[_Limited], A], query: _Limited) -> A:
    """Return a page, a shorter one if the texts of a full page exceed what PostgreSQL builds into one value (1 GB)."""
    while True:
        try:
            return read(query)
        except Invalid:
            if query["limit"] == 1:
                raise
            query = cast("_Limited", {**query, "limit": query["limit"] // 2})
