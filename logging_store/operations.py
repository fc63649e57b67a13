"""The operations of a store: for each its query and its answer.

An operation is the SQL function of its name in the schema `turnlog`, called with the project and the query as one JSON
object; the files of supabase/schemas describe each of them. Times are ISO 8601 texts in UTC, ids are UUIDs in text.
A page may be short, or empty: `after` is the cursor of the next one, and None on the last one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, NotRequired, TypedDict, TypeVar, cast

from logging_store.errors import Invalid
from logging_store.records.json_values import NO_TURN
from logging_store.records.models import InteractionStatus, ParticipantState, SessionStatus

Q = TypeVar("Q", bound=Mapping[str, Any])
A = TypeVar("A")
OperationName = Literal[
    "session", "sessions", "sessions_by_id", "known_sessions", "count_sessions", "recent", "transcript", "revisions",
    "outline", "conversation", "search", "gaps", "folder", "folders", "participants", "participations", "feedback",
    "overview", "usage", "add_read", "reads", "expire_reads", "edit", "choose", "erase", "erase_interaction",
    "erase_user", "merge_user", "merges", "purge_project", "report_key", "key", "origins", "keys", "create_key",
    "revoke_key", "rotate_key", "projects", "set_project", "expirable", "expire", "expirable_texts", "expire_texts",
    "expire_folders", "index_pending", "reindex", "ping", "catalogue", "access", "settings", "identities", "table",
    "inspect_table", "mend_table", "spans",
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
    """A position in a list of sessions by time. `began`: by activity, the latest arrival when paging began."""

    at: str
    session_id: str
    began: NotRequired[str]


class TurnCursor(TypedDict):
    """A position in a transcript. `turn`: 2**63 - 1 for interactions without one, which come last.

    `at`: as `said_at` returns it. `arrived`: the interaction's `created_at`. `branch`: the last interaction of the
    branch that is read, so that the next page is of the same one.
    """

    turn: int
    at: str
    arrived: str
    interaction_id: str
    branch: NotRequired[str]


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

    `started_at`: as callers sent it; `earliest_turn_at`: when its earliest turn was said. `owner`: as
    `Ownership.owner_of` returns it. `failed_count`: interactions with the status failed. `text_expired_at`: when its
    title and the texts of its interactions expired.
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
    earliest_turn_at: str | None
    ended_at: str | None
    created_at: str
    text_expired_at: str | None
    owner: str | None
    interaction_count: int
    failed_count: int
    last_activity_at: str | None


#: The session of an answer: None if there is no such session.
S = TypeVar("S", bound=SessionRef | None)


class Alternative(TypedDict):
    """An interaction that follows the same one as another. `current`: it is on the current branch."""

    interaction_id: str
    key: str | None
    current: bool


class Question(TypedDict):
    """What an interaction asked. `asked_at`: its `started_at`, or its arrival."""

    interaction_id: str
    key: str | None
    participant: str | None
    prompt: str | list[dict[str, Any]]
    asked_at: str


class Interaction(TypedDict):
    """`erased_at`: set on a tombstone. `spooled`: a part of it is still on this machine's disk only.

    `text_expired_at`: set if its texts expired; prompt and response are "[expired]" then, the error is its kind.
    `chosen_at`: when it was last made the current one of its alternatives. `alternatives`: all of them, itself
    included, in the order said; empty if there are no others, or if the query doesn't name `branches`. At most the 50
    before and the 50 after it. `context`: what was sent before the prompt; None if the query doesn't ask for it, and
    while it is spooled. `question`: of one on a branch that has no prompt, what the one asked in whose place it stands;
    only there if the query names `branches`, and null if all are asked for.
    """

    interaction_id: str
    key: str | None
    session_id: str
    prompt: str | list[dict[str, Any]] | None
    context: list[dict[str, Any]] | None
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
    chosen_at: str | None
    alternatives: list[Alternative]
    question: NotRequired[Question | None]
    turn: int | None
    trace_id: str | None
    span_id: str | None
    tags: list[str]
    metadata: dict[str, Any]
    created_at: str
    erased_at: str | None
    text_expired_at: str | None
    spooled: bool


def said_at(interaction: Interaction) -> str:
    """Return the time by which a transcript is ordered: `started_at`, but no later than `created_at`, its arrival.

    So a clock that is ahead can't pin an interaction to the end.
    """
    arrived = interaction["created_at"]
    return min(interaction["started_at"] or arrived, arrived, key=datetime.fromisoformat)


def cursor_of(interaction: Interaction) -> TurnCursor:
    """Return the position of an interaction in a transcript."""
    return {
        "turn": NO_TURN if interaction["turn"] is None else interaction["turn"],
        "at": said_at(interaction),
        "arrived": interaction["created_at"],
        "interaction_id": interaction["interaction_id"],
    }


class Participant(TypedDict):
    """`state`: None while it is unknown. `spooled`: a part of it is still on this machine's disk only."""

    participant: str
    role: str | None
    state: ParticipantState | None
    created_at: str
    spooled: bool


#: Stands for the session among the ids of what feedback is on. The feedback itself has the interaction_id None.
THE_SESSION = "00000000-0000-0000-0000-000000000000"


class Feedback(TypedDict):
    """One author's feedback under one name, on an interaction or, with the `interaction_id` None, on the session.

    `author`: None for the user of the session. `value`: None if it was taken back.
    """

    session_id: str
    session_key: str | None
    interaction_id: str | None
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

    A session's time is its `started_at`; else that of its earliest turn; else its `created_at`. `unclaimed`: only
    sessions without a claim. `begun`: not locked. `name`: a part of the title or the key, ignoring case.
    `metadata`: for each key, objects of which one must be contained. `author`: whose ratings count; without it, all.
    """

    user_id: NotRequired[str]
    unclaimed: NotRequired[bool]
    folder_id: NotRequired[str]
    tag: NotRequired[str]
    untagged: NotRequired[bool]
    metadata: NotRequired[list[list[dict[str, Any]]]]
    rating: NotRequired[bool]
    unrated: NotRequired[bool]
    author: NotRequired[str]
    min_turns: NotRequired[int]
    max_turns: NotRequired[int]
    status: NotRequired[SessionStatus]
    implicit: NotRequired[bool]
    model: NotRequired[str]
    has_errors: NotRequired[bool]
    begun: NotRequired[bool]
    name: NotRequired[str]


class SessionsQuery(SessionFilters, PageQuery):
    """`sort`: by time, or by `activity`, the arrival of the last interaction; sessions without any are left out.

    Pages by `activity` show the order in which the sessions were when paging began.
    """

    sort: NotRequired[Literal["newest", "oldest", "activity"]]
    after: NotRequired[SessionCursor | None]


class SessionsPage(TypedDict):
    sessions: list[Session]
    after: SessionCursor | None


class SessionsByIdQuery(SessionFilters, PageQuery):
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
    text_expired_at: str | None
    started_at: str | None
    created_at: str


class RecentPage(TypedDict):
    interactions: list[RecentInteraction]
    after: InteractionCursor | None


class BranchOptions(TypedDict):
    """Without `branches` all interactions. "current": those of the current branch, or of the one through `branch`.

    "all": all interactions with their alternatives. `branch`: an interaction's id; unknown, it changes nothing.
    """

    branches: NotRequired[Literal["current", "all"]]
    branch: NotRequired[str]


class TranscriptOptions(BranchOptions, PageQuery):
    """Ordered by turn, time said and arrival; with `by` "id" by id alone, which never changes.

    `latest`: the last page. `context`: with what was sent before the prompts.
    """

    after: NotRequired[TurnCursor | None]
    by: NotRequired[Literal["id"]]
    latest: NotRequired[bool]
    context: NotRequired[bool]


class TranscriptQuery(TranscriptOptions, SessionQuery):
    pass


class TranscriptPage(TypedDict, Generic[S]):
    """Not `complete`: further interactions may be on this machine's disk only.

    `branch`: the interaction through which the branch leads, None if it is the current one.
    `before`: whether interactions come before the page, which was asked for as the last one.
    """

    session: S
    interactions: list[Interaction]
    branch: str | None
    after: TurnCursor | None
    complete: bool
    before: NotRequired[bool]


class SpansQuery(PageQuery):
    session_id: str
    interaction_id: str


class Span(TypedDict):
    """A span of a trace. `interaction_id`: of a call. `is_own`: of the interaction that was asked for."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str | None
    kind: str | None
    scope: str | None
    started_at: str | None
    completed_at: str | None
    failed: bool
    interaction_id: str | None
    is_own: bool


class InteractionRef(TypedDict):
    interaction_id: str
    key: str | None


class InteractionSpans(TypedDict, Generic[S]):
    """In the order in which they began. Not `complete`: the trace has more, farther away in time."""

    session: S
    interaction: InteractionRef | None
    spans: list[Span]
    complete: bool


class RevisionCursor(TypedDict):
    """A position in a list of revisions. `at`: when the revision was said, `arrived`: when it was received."""

    interaction_id: str
    at: str
    arrived: str
    revision_id: str


class RevisionsOptions(PageQuery):
    """By interaction, the newest first; of all interactions, or of `interaction_ids`.

    `whole`: with all facts that are kept, not only those that differ.
    """

    interaction_ids: NotRequired[list[str]]
    after: NotRequired[RevisionCursor | None]
    whole: NotRequired[bool]


class RevisionsQuery(RevisionsOptions, SessionQuery):
    pass


class Revision(TypedDict):
    """What was said of an interaction and isn't shown.

    `facts`: fields of an interaction with their values, those that differ from what is shown; `fields` are their names,
    a key of the metadata as `metadata.KEY`. `said_at`: when it was said: its end, else its start, else its arrival.
    """

    revision_id: str
    interaction_id: str
    status: InteractionStatus | None
    fields: list[str]
    facts: dict[str, Any]
    said_at: str
    created_at: str


class RevisionsPage(TypedDict, Generic[S]):
    """`interactions`: those of the query's `interaction_ids` that there are."""

    session: S
    interactions: list[InteractionRef]
    revisions: list[Revision]
    after: RevisionCursor | None


class OutlineOptions(BranchOptions, PageQuery):
    """Which page of a transcript: the one with `interaction_id`, `after` a cursor, or `before` one, else the first.

    At most one of the three is given. If the branch doesn't lead through `interaction_id`, another one is shown.
    """

    interaction_id: NotRequired[str]
    after: NotRequired[TurnCursor]
    before: NotRequired[TurnCursor]


class OutlineQuery(OutlineOptions, SessionQuery):
    pass


class TokenSums(TypedDict):
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int


class UnpricedTokens(TokenSums):
    """Sums of interactions that have tokens and no cost.

    `input_tokens` is the whole input, with what came from a cache and what was written to it; `output_tokens` is the
    whole output, with the reasoning. (Where a provider counts these apart, they were added.)
    """

    interactions: int


class ModelOfSession(TypedDict):
    model: str | None
    provider: str | None
    interactions: int
    input_tokens: int | None
    output_tokens: int | None
    cached_input_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost_usd: float | None
    unpriced: UnpricedTokens


class Outline(TypedDict):
    """Where a page of a transcript begins, and totals of the whole transcript, without spooled interactions.

    `total`: interactions of the branch that is shown; `others`: those of the session that aren't on it. `branch`: the
    interaction through which it leads, None for the current one; `last`: its last interaction.
    `index`: interactions before the page. `after`: the cursor with which `transcript` reads the page; `context`: the
    cursor one interaction earlier. `models` and `states`, counts by status, are of the whole session.
    """

    total: int
    others: int
    branch: str | None
    last: str | None
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
    """`interaction_ids`: only feedback on these; `THE_SESSION` is that on the session. `author`: only this author's."""

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
    `feedback`: the most feedback on the page's interactions. `revisions`: the most revisions of them; none if left out.
    """

    neighbours: NotRequired[int]
    feedback: int
    revisions: NotRequired[int]


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
    revisions: RevisionsPage[SessionRef | None] | None


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
    """Not `complete`: the call hit a limit before it had scanned everything. `searched_to`: how far back it got.

    `keep_text_days`: the project's own number of days for which texts are kept, if it has one.
    """

    interactions: list[SearchHit]
    after: InteractionCursor | None
    complete: bool
    searched: int
    matched: int
    searched_to: str | None
    keep_text_days: int | None


class GapsOptions(TypedDict):
    """`ranges`: the most gaps, and the most doubled turns, listed per session."""

    ranges: int


class GapsPageOptions(GapsOptions, PageQuery):
    """Of the next `limit` sessions, those with a missing or a doubled turn."""

    after: NotRequired[str | None]


class KnownSessionsQuery(TypedDict):
    session_ids: Sequence[str]


class KnownSessions(TypedDict):
    """Those of the sessions asked about that exist, erased ones too."""

    session_ids: list[str]


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
    """`buckets`: the beginning of each, in order, the first at `from`; at most some hundred.

    Beyond `most` rows (`most_failures` failures) about `sample` are read. `top`: how many users, folders and errors are
    listed; `top_models`: how many models. `tiers`: input sizes, in tokens, at which prices change. `eras`: the times
    within the span at which they change.
    """

    buckets: list[str]
    most: int
    sample: int
    most_failures: int
    top: int
    top_models: int
    tiers: list[int]
    eras: list[str]


class _Share(TypedDict):
    """`share`: the fraction of the span that was read; counts and sums are of that fraction."""

    share: float


class InteractionsTotal(TokenSums):
    """`priced`: interactions with a cost; `cost_usd` is the sum of these. Latencies are [p50, p95]."""

    interactions: int
    completed: int
    failed: int
    pending: int
    abandoned: int
    priced: int
    cost_usd: float
    models: int
    latency_ms: list[float | None] | None
    time_to_first_token_ms: list[float | None] | None


class InteractionsBucket(TypedDict):
    at: str
    interactions: int
    latency_ms: list[float | None] | None


class ModelSize(UnpricedTokens):
    """A model's interactions without a cost, with an input between two tiers. `era`: how many of `eras` had begun."""

    model: str | None
    provider: str | None
    era: int


class TokensAndCost(TokenSums):
    """`priced`: interactions with a cost; `cost_usd` is the sum of these, and `sizes` are the others with tokens."""

    interactions: int
    priced: int
    cost_usd: float
    sizes: list[ModelSize]


class ModelActivity(TokensAndCost):
    model: str | None
    provider: str | None


class UserActivity(TokensAndCost):
    user_id: str
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


class UsageCursor(TypedDict):
    tokens: int
    user_id: str


class UsageOptions(_WholeSpan):
    """The users of a span, those with the most tokens first; or one of them."""

    limit: int
    user_id: NotRequired[str]
    after: NotRequired[UsageCursor]


class UsageQuery(UsageOptions):
    """Beyond `most` rows about `sample` are read, except of one user. `tiers` and `eras`: see `OverviewQuery`."""

    most: int
    sample: int
    tiers: list[int]
    eras: list[str]


class Usage(_Share):
    """`total`: of all users, and of sessions without one. `user_count`: the number of users."""

    total: TokensAndCost
    users: list[UserActivity]
    user_count: int
    after: UsageCursor | None


class NewRead(TypedDict):
    """A call that showed conversations: see supabase/schemas/tables/reads.sql."""

    id: str
    kind: str
    key_id: str | None
    reader: str | None
    call: str
    user_id: str | None
    session_ids: list[str]


class Read(NewRead):
    at: str


class ReadCursor(TypedDict):
    at: str
    id: str


class ReadsQuery(_Span, PageQuery):
    """`reader`: the id of a key, or a user. `user_id`: whose conversations were read."""

    session_id: NotRequired[str]
    user_id: NotRequired[str]
    reader: NotRequired[str]
    after: NotRequired[ReadCursor]


class ReadsPage(TypedDict):
    reads: list[Read]
    after: ReadCursor | None


class ExpireReadsQuery(PageQuery):
    before: str
    dry_run: bool


class ExpiredReads(TypedDict):
    reads: int
    left: bool


SESSION: Operation[SessionQuery, Session | None] = Operation("session")
SESSIONS: Operation[SessionsQuery, SessionsPage] = Operation("sessions")
SESSIONS_BY_ID: Operation[SessionsByIdQuery, SessionsByIdPage] = Operation("sessions_by_id")
KNOWN_SESSIONS: Operation[KnownSessionsQuery, KnownSessions] = Operation("known_sessions")
COUNT_SESSIONS: Operation[SessionFilters, SessionCount] = Operation("count_sessions")
RECENT: Operation[RecentQuery, RecentPage] = Operation("recent")
TRANSCRIPT: Operation[TranscriptQuery, TranscriptPage[SessionRef | None]] = Operation("transcript")
REVISIONS: Operation[RevisionsQuery, RevisionsPage[SessionRef | None]] = Operation("revisions")
SPANS: Operation[SpansQuery, InteractionSpans[SessionRef | None]] = Operation("spans")
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
USAGE: Operation[UsageQuery, Usage] = Operation("usage")
ADD_READ: Operation[NewRead, dict[str, Any]] = Operation("add_read")
READS: Operation[ReadsQuery, ReadsPage] = Operation("reads")
EXPIRE_READS: Operation[ExpireReadsQuery, ExpiredReads] = Operation("expire_reads")


# Editing and erasing


class EditQuery(SessionQuery):
    """`changes`: field -> new value; None empties the field."""

    changes: dict[str, Any]


class ChooseQuery(SessionQuery):
    """`at`: the time of the choice."""

    interaction_id: str
    at: str


class Choice(TypedDict, Generic[S]):
    """`chosen`: the session has this interaction."""

    session: S
    chosen: bool


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


class NewSession(TypedDict):
    """A session to be created where it isn't there. `owner`: as `Ownership.owner_of` returns it."""

    owner: str | None
    created_at: str


class EraseInteractionQuery(SessionQuery):
    """`dry_run`: only count. `ensure`: leave a tombstone even of an unknown interaction, in this session."""

    interaction_id: str
    dry_run: NotRequired[bool]
    ensure: NotRequired[NewSession]


class ErasedTurn(TypedDict):
    """What a call erased, or would erase: `interactions` is 0 or 1. `proof`: SQL that counts what remains."""

    interaction_id: str
    erased_at: str | None
    interactions: int
    participants: int
    feedback: int
    proof: str


class InteractionErased(LocallyErased):
    """`erased`: None if there is no such interaction, or if the session is a tombstone."""

    session: SessionRef | None
    erased: ErasedTurn | None


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


class MergeUserQuery(TypedDict):
    """`user_id`: the guest. `begin` on the first call; or `dry_run`, which only counts, one page per call."""

    user_id: str
    into: str
    begin: NotRequired[bool]
    dry_run: NotRequired[bool]
    most: NotRequired[int]
    limit: NotRequired[int]
    after: NotRequired[str | None]


class UserMerged(TypedDict):
    """What a call moved, or would move. `merged_into`: if nothing was done, since the guest is that user."""

    merged_into: str | None
    merged_at: str | None
    sessions: int
    participations: int
    turns: int
    feedback: int
    folders: int
    left: bool
    after: str | None


class UserQuery(TypedDict):
    user_id: str


class Merges(TypedDict):
    """`into`: whom a user was merged into. `guests`: who were merged into the user."""

    into: str | None
    guests: list[str]


class PurgeProjectQuery(TypedDict):
    limit: NotRequired[int]


class ProjectPurged(TypedDict):
    """What a call deleted of a selftest's project; `left`: remaining rows."""

    sessions: int
    interactions: int
    left: int


#: Bounded, so that nobody waits long for the locks of what is being erased.
EDIT: Operation[EditQuery, Session | None] = Operation("edit")
CHOOSE: Operation[ChooseQuery, Choice[SessionRef | None]] = Operation("choose")
ERASE: Operation[EraseQuery, Erased | None] = Operation("erase", {"most": 20_000})
ERASE_INTERACTION: Operation[EraseInteractionQuery, InteractionErased] = Operation("erase_interaction")
ERASE_USER: Operation[EraseUserQuery, UserErased] = Operation("erase_user", {"most": 2_000, "limit": 500})
MERGE_USER: Operation[MergeUserQuery, UserMerged] = Operation("merge_user", {"most": 2_000, "limit": 500})
MERGES: Operation[UserQuery, Merges] = Operation("merges")
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
    """`keep_days`, `keep_text_days`: None for the service's own setting.

    `expired_at`: when `turnlog expire` last ran, by the database's clock. `now`: that clock.
    """

    project: str
    keep_days: int | None
    keep_text_days: int | None
    expired_at: str | None
    now: str


class Projects(TypedDict):
    """Projects with records or with a setting."""

    projects: list[Project]


class SetProjectQuery(TypedDict):
    """What isn't named stays as it is; None: the service's own setting. `expired`: `turnlog expire` runs now."""

    keep_days: NotRequired[int | None]
    keep_text_days: NotRequired[int | None]
    expired: NotRequired[Literal[True]]


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


class ExpirableTextsQuery(ExpirableQuery):
    """`erased_before`: leave out sessions idle since then, which are erased as a whole."""

    erased_before: NotRequired[str | None]


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

    `database_id`: as turnlog.database_id returns it; None for roles that may not read it, which `Store.ping` refuses.
    `now`: the database's clock. `rows_hidden`: row-level security hides the tables from this role.
    """

    schema: str
    database_id: str
    now: str
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
EXPIRABLE_TEXTS: Operation[ExpirableTextsQuery, Expirable] = Operation("expirable_texts")
EXPIRE_TEXTS: Operation[ExpireQuery, Expired] = Operation("expire_texts")
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
