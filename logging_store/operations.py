"""What a store can be asked: for each operation its query and its answer.

An operation is the SQL function of its name in the schema `turnlog`, called with the project and the query as one JSON
object; the files of supabase/schemas say how each is answered. Times are ISO 8601 texts in UTC, ids are UUIDs in text.
A page may be short, or empty: `after` is the place to go on from, and None on the last one.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NotRequired, TypedDict, TypeVar, cast

from logging_store.errors import Invalid
from logging_store.records.models import InteractionStatus, ParticipantState, SessionStatus

Q = TypeVar("Q", bound=Mapping[str, Any])
A = TypeVar("A")
Name = Literal[
    "session", "sessions", "sessions_by_id", "count_sessions", "recent", "transcript", "outline", "conversation",
    "search", "gaps", "folder", "folders", "participants", "participations", "feedback", "overview", "edit", "erase",
    "erase_user", "forget_project", "report_key", "key", "origins", "keys", "create_key", "revoke_key", "rotate_key",
    "projects", "set_project", "expirable", "expire", "expire_folders", "index_pending", "reindex", "ping",
    "catalogue", "access", "settings", "identities", "table", "inspect_table", "mend_table",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation(Generic[Q, A]):
    """An operation: a query of the type `Q` is answered by an `A`.

    `bounds`: how much one call does, where its query says nothing else. Of these `ms` is also bounded by the deadline.
    """

    name: Name
    bounds: dict[str, float] = field(default_factory=dict)

    def request(self, project: str | None, query: Q, deadline_s: float) -> dict[str, Any]:
        """Return what the function takes. `project`: None of an operation that isn't of one project alone."""
        request = {**self.bounds, **({} if project is None else {"project": project}), **query}
        if "ms" in self.bounds:
            request["ms"] = min(request["ms"], deadline_s * 1000 / 3)
        return request


class Nothing(TypedDict):
    """The query of an operation that takes none."""


class OfSession(TypedDict):
    session_id: str


class OfPage(TypedDict):
    """`limit`: rows of a page."""

    limit: int


_Span = TypedDict("_Span", {"from": NotRequired[str], "to": NotRequired[str]})  # from <= time < to


class SessionPlace(TypedDict):
    """A place in a list of sessions by time."""

    at: str
    session_id: str


class TurnPlace(TypedDict):
    """A place in a transcript. `turn`: 2**63 - 1 for those that have none, which come after all others."""

    turn: int
    at: str
    interaction_id: str


class InteractionPlace(SessionPlace):
    """A place in a list of interactions of all sessions, by time."""

    interaction_id: str


class NumberPlace(TypedDict):
    """A place in a folder. `number`: 2**31 - 1 for the sessions that have none, which come last."""

    number: int
    session_id: str


class FeedbackPlace(TypedDict):
    """A place in a list of feedback. `author` is empty where it is whom the session is with."""

    session_id: NotRequired[str]
    interaction_id: str
    author: str
    name: str


class SessionName(TypedDict):
    """A session, as far as it names what is below it; `erased_at` is set of a tombstone."""

    session_id: str
    key: str | None
    erased_at: str | None


class Session(SessionName):
    """A session with its derived counts.

    `owner`: whose it is, as `Ownership.owner_of` spells it. `failed_count`: interactions in the status failed.
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


#: The session that an answer is of: None if there is none.
S = TypeVar("S", bound=SessionName | None)


class Interaction(TypedDict):
    """`spooled`: something of it still waits on this machine's disk."""

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
    cost_usd: float | None
    participant: str | None
    reply_to: str | None
    turn: int | None
    tags: list[str]
    metadata: dict[str, Any]
    created_at: str
    spooled: bool


class Participant(TypedDict):
    """`state` is None while nobody has said it. `spooled`: something of them waits on this machine's disk."""

    participant: str
    role: str | None
    state: ParticipantState | None
    created_at: str
    spooled: bool


class Feedback(TypedDict):
    """What an author says of an interaction under a name; `author` is None where it is whom the session is with."""

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
    """`planned` are those of the plan; `opened` aren't locked, or have interactions; `closed` are among them."""

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


# reading


class SessionFilters(_Span):
    """Which sessions a list holds.

    A session's time is its `started_at`, or `created_at` where the caller gave none. `unclaimed`: none that somebody
    claims. `begun`: not locked. `name`: a part of the title or the key, in either case.
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


class SessionsQuery(SessionFilters, OfPage):
    """`sort`: by their time, or by `activity`: when their last interaction arrived; those without any are left out."""

    sort: NotRequired[Literal["newest", "oldest", "activity"]]
    after: NotRequired[SessionPlace | None]


class SessionsPage(TypedDict):
    sessions: list[Session]
    after: SessionPlace | None


class IdFilters(_Span):
    user_id: NotRequired[str]
    tag: NotRequired[str]
    status: NotRequired[SessionStatus]


class SessionsByIdQuery(IdFilters, OfPage):
    """In the order of their ids, which never change: a walk meets each session that was there at its start once."""

    after: NotRequired[str | None]


class SessionsByIdPage(TypedDict):
    sessions: list[Session]
    after: str | None


class SessionCount(TypedDict):
    """How many sessions the filters let through; not `complete`: there may be more."""

    sessions: int
    complete: bool


class RecentQuery(_Span, OfPage):
    """By arrival, the last one first; with `from` or `to` those that began in this time, the latest first.

    `error`: only of this kind, as `overview` spells it.
    """

    model: NotRequired[str]
    has_errors: NotRequired[bool]
    error: NotRequired[str]
    after: NotRequired[InteractionPlace | None]


class RecentInteraction(TypedDict):
    """An interaction of some session, with the beginnings of its texts: of 300 characters each."""

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
    after: InteractionPlace | None


class TranscriptPart(OfPage):
    """In the order of the turns, the times and the ids; `by` "id": by these alone, which never change."""

    after: NotRequired[TurnPlace | None]
    by: NotRequired[Literal["id"]]


class TranscriptQuery(TranscriptPart, OfSession):
    pass


class TranscriptPage(TypedDict, Generic[S]):
    """Not `complete`: something may be on this machine's disk only."""

    session: S
    interactions: list[Interaction]
    after: TurnPlace | None
    complete: bool


class OutlinePart(OfPage):
    """Which page of a transcript is wanted: at most one of the others, else it is the first one.

    The page that holds the interaction, begins after a place, or ends before one.
    """

    interaction_id: NotRequired[str]
    after: NotRequired[TurnPlace]
    before: NotRequired[TurnPlace]


class OutlineQuery(OutlinePart, OfSession):
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
    """Which page of a transcript is meant, and what all of it has; what waits in a spool isn't counted.

    `index`: how many interactions stand before the page; `after`: where `transcript` begins to read it, `context`: one
    interaction earlier. `states`: interactions by status.
    """

    total: int
    index: int
    after: TurnPlace | None
    context: TurnPlace | None
    models: list[ModelOfSession]
    states: dict[InteractionStatus, int]


class ParticipantsAnswer(TypedDict, Generic[S]):
    """In the order of their arrival."""

    session: S
    participants: list[Participant]


class FeedbackPart(OfPage):
    """`interaction_ids`: only of these. `author`: only what they said."""

    interaction_ids: NotRequired[list[str]]
    author: NotRequired[str]
    after: NotRequired[FeedbackPlace | None]


class FeedbackQuery(FeedbackPart):
    """Without a session: what an author said in sessions that are not their own."""

    session_id: NotRequired[str]


class FeedbackPage(TypedDict, Generic[S]):
    """In the order of the ids."""

    session: S
    feedback: list[Feedback]
    after: FeedbackPlace | None


class FolderPart(OfPage):
    after: NotRequired[NumberPlace | None]


class FolderQuery(FolderPart):
    folder_id: str


class FolderPage(TypedDict, Generic[F]):
    """A folder with a page of its sessions by their numbers."""

    folder: F
    sessions: list[Session]
    after: NumberPlace | None


class FoldersQuery(OfPage):
    user_id: NotRequired[str]
    after: NotRequired[str | None]


class FoldersPage(TypedDict):
    """In the order of their ids."""

    folders: list[Folder]
    after: str | None


class ConversationPart(OutlinePart):
    """A page of a session with all that stands beside it.

    `neighbours`: sessions of its folder that are given, from the one before it on; none, if it is left out.
    `feedback`: the most that is given of what was said of the page's interactions.
    """

    neighbours: NotRequired[int]
    feedback: int


class ConversationQuery(ConversationPart, OfSession):
    """`owner`: whose it must be, for who only reaches their own. `author`: the only one whose feedback is given."""

    owner: NotRequired[str]
    author: NotRequired[str]


class Conversation(TypedDict, Generic[S]):
    """A session and each part as its own operation answers it.

    Parts are None of a tombstone, or of a session that isn't its owner's who asks; some are while the store is away.
    The transcript begins with the interaction before the page, where there is one.
    """

    session: S
    outline: Outline | None
    transcript: TranscriptPage[SessionName | None] | None
    participants: ParticipantsAnswer[SessionName | None] | None
    folder: FolderPage[Folder | None] | None
    feedback: FeedbackPage[SessionName | None] | None


class SearchFilters(_Span, OfPage):
    """Interactions that say all the terms, or any without terms. `words`: as whole words only."""

    terms: list[str]
    order: NotRequired[Literal["newest", "match"]]
    words: NotRequired[bool]
    user_id: NotRequired[str]
    unclaimed: NotRequired[bool]
    session_id: NotRequired[str]
    model: NotRequired[str]
    after: NotRequired[InteractionPlace | None]


class SearchQuery(SearchFilters):
    """A call looks at `rows` interactions at most, for about `ms`; at the `first` newest ones before the index."""

    rows: NotRequired[int]
    ms: NotRequired[float]
    first: NotRequired[int]


class Hit(TypedDict):
    """`text`: what stands around the first term in `field`, from `starts` on, of `length` characters in all."""

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
    """Not `complete`: the call ended before it had looked at everything for its page. `searched_to`: how far back."""

    interactions: list[Hit]
    after: InteractionPlace | None
    complete: bool
    searched: int
    matched: int
    searched_to: str | None


class GapsPart(TypedDict):
    """`ranges`: the most gaps, and the most doubled turns, that are listed of a session."""

    ranges: int


class GapsOfPage(GapsPart, OfPage):
    """Of the next `limit` sessions those that lack a turn or have one twice."""

    after: NotRequired[str | None]


class GapsQuery(GapsPart):
    """Of one session, whatever its state; or, without one, as `GapsOfPage`."""

    session_id: NotRequired[str]
    limit: NotRequired[int]
    after: NotRequired[str | None]


_TurnRange = TypedDict("_TurnRange", {"from": int, "to": int})  # both are part of it


class DoubledTurn(TypedDict):
    turn: int
    interactions: int


class Gaps(SessionName):
    """What a session's own turn counter lacks between `first` and `last`, the lowest and the highest turn seen."""

    first: int | None
    last: int | None
    counted: int
    missing: int
    gap_count: int
    gaps: list[_TurnRange]
    doubled_count: int
    doubled: list[DoubledTurn]


class GapsPage(TypedDict):
    sessions: list[Gaps]
    after: str | None


class ParticipationsPart(OfPage):
    after: NotRequired[str | None]


class ParticipationsQuery(ParticipationsPart):
    """Others' sessions that a user takes part in, in the order of their ids."""

    user_id: str


_WholeSpan = TypedDict("_WholeSpan", {"from": str, "to": str})


class OverviewQuery(_WholeSpan):
    """In buckets of `bucket_s` seconds since 1970. Beyond `most` rows, or `most_failures`, it looks at a `sample`.

    `top` users, folders and errors are told, and `top_models`. `tiers`: sizes of inputs at which prices change.
    """

    bucket_s: int
    most: int
    sample: int
    most_failures: int
    top: int
    top_models: int
    tiers: list[int]


class _Share(TypedDict):
    """`share`: of the span's time, that was looked at; counts and sums are of that share."""

    share: float


class InteractionsTotal(TypedDict):
    """`priced`: interactions that state a cost, `cost_usd` is its sum. Latencies are [p50, p95]."""

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
    """Of a model's interactions without a cost those whose input is between two tiers."""

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
    """Errors that differ in nothing but ids and numbers; None: none was stated."""

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
    """What began in a span of time."""

    interactions: InteractionsOverview
    failures: FailuresOverview
    sessions: SessionsOverview


SESSION: Operation[OfSession, Session | None] = Operation("session")
SESSIONS: Operation[SessionsQuery, SessionsPage] = Operation("sessions")
SESSIONS_BY_ID: Operation[SessionsByIdQuery, SessionsByIdPage] = Operation("sessions_by_id")
COUNT_SESSIONS: Operation[SessionFilters, SessionCount] = Operation("count_sessions")
RECENT: Operation[RecentQuery, RecentPage] = Operation("recent")
TRANSCRIPT: Operation[TranscriptQuery, TranscriptPage[SessionName | None]] = Operation("transcript")
OUTLINE: Operation[OutlineQuery, Outline] = Operation("outline")
CONVERSATION: Operation[ConversationQuery, Conversation[Session | None]] = Operation("conversation")
SEARCH: Operation[SearchQuery, SearchPage] = Operation("search", {"rows": 1_000_000, "ms": 1500, "first": 300})
GAPS: Operation[GapsQuery, GapsPage] = Operation("gaps")
FOLDER: Operation[FolderQuery, FolderPage[Folder | None]] = Operation("folder")
FOLDERS: Operation[FoldersQuery, FoldersPage] = Operation("folders")
PARTICIPANTS: Operation[OfSession, ParticipantsAnswer[SessionName | None]] = Operation("participants")
PARTICIPATIONS: Operation[ParticipationsQuery, SessionsByIdPage] = Operation("participations")
FEEDBACK: Operation[FeedbackQuery, FeedbackPage[SessionName | None]] = Operation("feedback")
OVERVIEW: Operation[OverviewQuery, Overview] = Operation("overview")


# changing and erasing


class EditQuery(OfSession):
    """`changes`: values that replace those of fields that people edit; None empties one."""

    changes: dict[str, Any]


class EraseQuery(OfSession):
    """`dry_run` only counts; `ensure` leaves a tombstone also of a session that isn't there."""

    dry_run: NotRequired[bool]
    ensure: NotRequired[bool]
    most: NotRequired[int]


class DiskIndex(TypedDict):
    """What an erasure took from this machine's disk; `unreadable_files` are those of its spool that nobody can read."""

    spooled: NotRequired[int]
    dead_letters: NotRequired[int]
    unreadable_files: NotRequired[int]


class Erased(DiskIndex):
    """What a call took, or would: `left` tells whether there is more. `proof`: SQL that counts what is there still."""

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
    """`begin` with the first call; or `dry_run`, which only counts, a page with each call.

    `waiting`: sessions of which something waits in a spool that says they are this user's; `stated`: those of which
    the service itself says so. `among`: a dry run tells which of these are the user's.
    """

    user_id: str
    begin: NotRequired[bool]
    dry_run: NotRequired[bool]
    waiting: NotRequired[list[str]]
    stated: NotRequired[list[str]]
    among: NotRequired[list[str]]
    after: NotRequired[Any]
    most: NotRequired[int]
    limit: NotRequired[int]


class UserErased(DiskIndex):
    """What all calls since the one with `begin` took; of a dry run, what this page counts.

    `session_ids`: those that this call made tombstones.
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


class ForgetQuery(TypedDict):
    limit: NotRequired[int]


class Forgotten(TypedDict):
    """What a call took of a self-test's project; `left`: rows that are there still."""

    sessions: int
    interactions: int
    left: int


#: Bounded where others wait: for the locks of what is being erased, or for an answer in time.
EDIT: Operation[EditQuery, Session | None] = Operation("edit")
ERASE: Operation[EraseQuery, Erased | None] = Operation("erase", {"most": 20_000})
ERASE_USER: Operation[EraseUserQuery, UserErased] = Operation("erase_user", {"most": 2_000, "limit": 500})
FORGET_PROJECT: Operation[ForgetQuery, Forgotten] = Operation("forget_project", {"limit": 10_000})


# administration


class ReportKey(TypedDict):
    """What a project's reports are signed with, in hexadecimal digits; the same on all machines."""

    key: str


class KeyQuery(TypedDict):
    """`digest`: the key's SHA-256 in hexadecimal digits."""

    digest: str


class Origins(TypedDict):
    """Of all web pages that may use some key."""

    origins: list[str]


class KeysQuery(TypedDict):
    project: NotRequired[str]


class Keys(TypedDict):
    """The oldest first; of a project, or of all."""

    keys: list[dict[str, Any]]


class CreateKeyQuery(TypedDict):
    """`first`: only if there is no key at all; else the answer is None."""

    key: dict[str, Any]
    first: bool


class OfKey(TypedDict):
    id: str


class RotateKeyQuery(OfKey):
    """A key in the place of another, which ends after `overlap_s` seconds."""

    overlap_s: float
    key: Mapping[str, str | None]


class KeyRotated(TypedDict):
    key: dict[str, Any]
    replaced: dict[str, Any]


class Project(TypedDict):
    """`keep_days`: None as the service's own setting says. `now`: the database's clock."""

    project: str
    keep_days: int | None
    now: str


class Projects(TypedDict):
    """Those of which something is stored or set."""

    projects: list[Project]


class SetProjectQuery(TypedDict):
    keep_days: int | None


class _Idle(TypedDict):
    """Idle since `before`. `except`: sessions and folders of which something waits in a spool."""

    before: str


_Except = TypedDict("_Except", {"except": NotRequired[list[str]]})


class ExpirableQuery(_Idle, _Except, OfPage):
    after: NotRequired[str | None]


class Expirable(TypedDict):
    session_ids: list[str]
    interactions: int
    after: str | None


class ExpireQuery(_Idle, _Except):
    """`most`: interactions of a call. `wait`: for the locks of others."""

    session_ids: list[str]
    most: int
    wait: NotRequired[bool]


class Expired(TypedDict):
    """`held`: sessions that somebody has a lock on. `left`: there is more."""

    session_ids: list[str]
    interactions: int
    held: list[str]
    left: bool


class ExpireFoldersQuery(_Idle, _Except, OfPage):
    dry_run: bool
    after: NotRequired[str | None]


class FoldersExpired(TypedDict):
    folders: int
    after: str | None


class IndexQuery(TypedDict):
    """`ms`: about how long."""

    ms: float


class Indexed(TypedDict):
    """How many interactions, and whether there is more."""

    indexed: int
    left: bool


class ReindexQuery(OfPage):
    after: Mapping[str, Any] | None


class Requeued(TypedDict):
    queued: int
    after: Mapping[str, Any] | None


class OfTables(TypedDict):
    tables: list[str]


class SettingsQuery(TypedDict):
    settings: list[str]


REPORT_KEY: Operation[Nothing, ReportKey] = Operation("report_key")
KEY: Operation[KeyQuery, dict[str, Any] | None] = Operation("key")
ORIGINS: Operation[Nothing, Origins] = Operation("origins")
KEYS: Operation[KeysQuery, Keys] = Operation("keys")
CREATE_KEY: Operation[CreateKeyQuery, dict[str, Any] | None] = Operation("create_key")
REVOKE_KEY: Operation[OfKey, dict[str, Any] | None] = Operation("revoke_key")
ROTATE_KEY: Operation[RotateKeyQuery, KeyRotated | None] = Operation("rotate_key")
PROJECTS: Operation[Nothing, Projects] = Operation("projects")
SET_PROJECT: Operation[SetProjectQuery, dict[str, Any]] = Operation("set_project")
EXPIRABLE: Operation[ExpirableQuery, Expirable] = Operation("expirable")
EXPIRE: Operation[ExpireQuery, Expired] = Operation("expire")
EXPIRE_FOLDERS: Operation[ExpireFoldersQuery, FoldersExpired] = Operation("expire_folders")
INDEX_PENDING: Operation[IndexQuery, Indexed] = Operation("index_pending")
REINDEX: Operation[ReindexQuery, Requeued] = Operation("reindex")
PING: Operation[Nothing, dict[str, Any]] = Operation("ping")
#: Of the database itself: see conversation/doctor, which takes their answers apart.
CATALOGUE: Operation[OfTables, dict[str, Any]] = Operation("catalogue")
ACCESS: Operation[OfTables, dict[str, Any]] = Operation("access")
SETTINGS: Operation[SettingsQuery, dict[str, Any]] = Operation("settings")
IDENTITIES: Operation[dict[str, Any], dict[str, Any]] = Operation("identities")


class _Listed(TypedDict):
    after: Any


_Page = TypeVar("_Page", bound=_Listed)


def pages(read: Callable[[Q], _Page], query: Q) -> Iterator[_Page]:
    """Yield all pages of a list, of which `read` returns the one that a query asks for."""
    while True:
        page = read(query)
        yield page
        if page["after"] is None:
            return
        query = cast("Q", {**query, "after": page["after"]})


_Limited = TypeVar("_Limited", bound=OfPage)


def shortened(read: Callable[[_Limited], A], query: _Limited) -> A:
    """Return a page; a shorter one where a thousand texts of megabytes are more than PostgreSQL builds into one."""
    while True:
        try:
            return read(query)
        except Invalid:
            if query["limit"] == 1:
                raise
            query = cast("_Limited", {**query, "limit": query["limit"] // 2})
