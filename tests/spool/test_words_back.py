"""All that can happen to a chat, in any order: the same rows, revisions and branches result.

Answers grow, fail or are revised; there are alternatives and histories; feedback is taken back, guests are merged,
sessions handed over, turns erased. What is written arrives directly or by one of two spools, at least once, split
anyhow; merges, hand-overs and erasures fall anywhere among it. The rows are those of a log to which everything came
once and in order. What is decided by who arrives first isn't compared: when a record was received, and times, numbers
and links of a turn that was erased before it came, so also the branches of its session.
"""

import json
import os
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from logging_store import operations as ops
from logging_store.batches import Batch, BatchReceipts, Receipt
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.records import identity
from logging_store.records.models import (
    Feedback,
    Folder,
    LoggedInteraction,
    Participant,
    Record,
    Session,
    SessionChanges,
)
from logging_store.repository import ConversationRepository
from logging_store.store import Store
from tests.spool.test_any_order import Waiting

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("TURNLOG_TEST_EXAMPLES", "100"))
SPOOLS = 2
#: Whom each user turns out to be: a guest of a guest.
INTO = {"anon": "guest", "guest": "ada"}
USERS = {"one": "anon", "two": "guest", "three": "ada", "four": None}  # of sessions
TURNS = {"1": "anon", "2": "guest", "3": "ada", "4": "bob"}  # whom each interaction names


def history(of: str) -> list[dict[str, str]]:
    """Return what was said before a turn, and before no other one: erasing a turn erases its words everywhere."""
    return [{"role": "user", "content": f"before {of}"}, {"role": "assistant", "content": f"said before {of}"}]


#: What is said of each turn, in parts that contradict nothing.
SAID: dict[str, list[dict[str, Any]]] = {
    "1": [
        {"prompt": "Tell", "status": "pending"},
        {"response": "On", "status": "pending"},
        {"response": "Once", "status": "pending"},
        {"response": "Once upon", "finish_reason": "stop"},
        {"status": "failed", "error": "overloaded", "completed_at": "2026-11-21T06:31:00Z"},
        {"output_tokens": 3},
    ],
    "2": [
        {"prompt": prompt, "response": response, "on_conflict": "revise", "completed_at": f"2026-11-21T06:32:0{n}Z"}
        for n, (prompt, response) in enumerate(
            [("And?", "More"), ([*history("2"), {"role": "user", "content": "And?"}], "More"), ("And then?", "The end")]
        )
    ],
    "3": [
        {"response": "Less", "alternative_to": "2"},
        {"response": "Less", "status": "completed", "context": history("3")},
    ],
    "4": [
        {"prompt": [*history("4"), {"role": "user", "content": "Thanks"}], "reply_to": "3"},
        {"response": "Welcome", "context": history("all")[:1]},
        {"context": history("all")},
    ],
}

STATEMENTS = [(turn, said) for turn, parts in SAID.items() for said in parts]


def told(session: str, turn: str, said: dict[str, Any]) -> LoggedInteraction:
    of_turn = {"session_id": session, "interaction_id": turn, "participant": TURNS[turn], "tags": ["t"]}
    return LoggedInteraction.model_validate(of_turn | {"started_at": f"2026-11-21T06:30:0{turn}Z"} | said)


sessions = st.sampled_from(sorted(USERS))
turns = st.sampled_from(sorted(TURNS))
records = st.one_of(
    sessions.map(lambda name: Session(session_id=name, user_id=USERS[name], title=f"Title {name}")),
    st.builds(lambda session, said: told(session, *said), sessions, st.sampled_from(STATEMENTS)),
    st.builds(
        lambda session, turn, author, value, second: Feedback.model_validate(
            {"session_id": session, "interaction_id": turn, "author": author, "value": value,
             "given_at": f"2026-11-21T06:30:0{second}Z"}
        ),
        sessions,
        turns | st.none(),
        st.sampled_from(["anon", "guest", "ada", None]),
        st.sampled_from([True, 3, "text", None, None]),
        st.integers(0, 2),
    ),
    st.builds(
        lambda session, name, state: Participant(session_id=session, participant=name, role="r", state=state),
        sessions,
        st.sampled_from(["anon", "guest", "bob"]),
        st.just("joined"),
    ),
    st.sampled_from(["anon", "guest"]).map(lambda user: Folder(folder_id=f"folder of {user}", user_id=user)),
)  # fmt: skip


class Write(NamedTuple):
    """Records that arrive in one batch: at once (`spool` is None), or when the spool delivers."""

    records: Sequence[Record]
    spool: int | None


class Deliver(NamedTuple):
    spool: int


class Merge(NamedTuple):
    guest: str


class HandOver(NamedTuple):
    """The session without a user becomes somebody's."""

    to: str


class EraseTurn(NamedTuple):
    session: str
    turn: str


Act = Write | Deliver | Merge | HandOver | EraseTurn


@st.composite
def plans(draw: st.DrawFn) -> list[Act]:
    said: list[Record] = draw(st.lists(records, min_size=3, max_size=12))
    for session in draw(st.lists(sessions, max_size=1)):  # everything about a whole chat
        said += [told(session, *each) for each in STATEMENTS]
    arriving = draw(st.permutations([*said, *draw(st.lists(st.sampled_from(said), max_size=4))]))
    acts: list[Act] = [Merge(guest) for guest in INTO]
    acts += draw(st.lists(st.sampled_from([Merge(guest) for guest in INTO]), max_size=1))
    acts += draw(st.lists(st.builds(EraseTurn, sessions, turns), max_size=3))
    acts += draw(st.lists(st.just(HandOver("anon")), max_size=1))
    acts += draw(st.lists(st.builds(Deliver, st.integers(0, SPOOLS - 1)), max_size=3))
    while arriving:
        size = draw(st.integers(1, 4))
        acts.append(Write(arriving[:size], draw(st.none() | st.integers(0, SPOOLS - 1))))
        arriving = arriving[size:]
    return list(draw(st.permutations(acts)))


class Spooling:
    """A store that only spools."""

    def __init__(self, spool: Waiting) -> None:
        self._spool = spool

    def write(self, batch: Batch) -> BatchReceipts:
        self._spool.directory.append(batch)
        return BatchReceipts.all(Receipt(receipt="spooled"), batch)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not asked of this store")


def erase_turn(log: ConversationRepository, act: EraseTurn) -> None:
    """Erase a turn, also one that hasn't come yet, as where it is only spooled."""
    session_id = identity.session(log.project, act.session).id
    query: ops.EraseInteractionQuery = {
        "session_id": session_id,
        "interaction_id": identity.interaction(log.project, session_id, act.turn).id,
        "ensure": {"owner": None, "created_at": "2026-11-21T12:00:00Z"},
    }
    log.store.ask(ops.ERASE_INTERACTION, log.project, query)


def carry_out(plan: list[Act], store: Store, project: str, folder: Path) -> int:
    """Let everything happen as planned; return how many dead letters there are."""
    log = ConversationRepository(store, project)
    spools = [Waiting(store, folder / str(n)) for n in range(SPOOLS)]
    logs: list[Any] = [ConversationRepository(Spooling(spool), project) for spool in spools]
    for act in plan:
        match act:
            case Write(written, by):
                (log if by is None else logs[by]).write(written)
            case Deliver(number):
                spools[number].deliver()
            case Merge(guest):
                log.merge_user(guest, INTO[guest])
            case HandOver(to):
                log.write([Session(session_id="four")])
                log.edit("four", SessionChanges(user_id=to))
            case EraseTurn():
                erase_turn(log, act)
    for spool in spools:
        spool.deliver()
        spool.directory.close()
    return sum(spool.dead_letters.count() or 0 for spool in spools)


def rows_of(store: Store, project: str) -> dict[str, Any]:
    log = ConversationRepository(store, project)
    found: dict[str, Any] = {}
    for row in log.sessions_by_id({"limit": 100})["sessions"]:
        name = row["key"] or row["session_id"]
        turns_of = {}
        for turn in log.transcript(row["session_id"], {"limit": 100, "context": True})["interactions"]:
            what = ["key", "prompt", "context", "response", "participant", "tags", "status", "error"]
            if not turn["erased_at"]:
                what += ["finish_reason", "output_tokens", "started_at", "completed_at", "reply_to", "alternative_to"]
            turns_of[turn["interaction_id"]] = {field: turn[field] for field in what} | {  # type: ignore[literal-required]
                "erased": turn["erased_at"] is not None
            }
        has_erased = any(each["erased"] for each in turns_of.values())
        branch = [] if has_erased else log.branch(row["session_id"], {"limit": 100})["interactions"]
        revised = log.session_revisions(row["session_id"], {"limit": 100})["revisions"]
        people = log.participants(row["session_id"])["participants"]
        given_to = log.feedback(row["session_id"], {"limit": 100})["feedback"]
        found[name] = {
            "user": row["user_id"],
            "title": row["title"],
            "turns": turns_of,
            "branch": [(each["interaction_id"], [a["current"] for a in each["alternatives"]]) for each in branch],
            "revisions": sorted(
                json.dumps([each["interaction_id"], each["said_at"], each["facts"]], sort_keys=True) for each in revised
            ),
            "people": sorted((each["participant"], each["role"] or "", each["state"] or "") for each in people),
            "feedback": [
                (each["interaction_id"], each["author"], each["name"], each["value"], each["given_at"])
                for each in given_to
            ],
        }
    for folder in log.folders({"limit": 100})["folders"]:
        found[f"{folder['key']} "] = folder["user_id"]
    return found


def in_order(plan: list[Act]) -> list[Act]:
    """Return a plan in which everything is written at once, before anything is merged, handed over or erased."""
    written = [Write([each], None) for act in plan if isinstance(act, Write) for each in act.records]
    return [*written, *(act for act in plan if not isinstance(act, Write | Deliver))]


@pytest.mark.timeout(600)
def test_any_order_of_all_that_can_happen_to_a_chat_gives_the_same_rows(
    database: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    tally: Counter[str] = Counter()
    store = PostgresStore(database)

    @seed(int(pytestconfig.getoption("hypothesis_seed") or 1))
    @settings(max_examples=EXAMPLES, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(plan=plans())
    def check(plan: list[Act]) -> None:
        # ids derive from the project's name, so it is the same one that is emptied in between
        found = []
        for each in (plan, in_order(plan)):
            project = f"selftest-{uuid.UUID(int=7)}"
            assert carry_out(each, store, project, tmp_path / uuid.uuid4().hex) == 0
            found.append(rows_of(store, project))
            while store.ask(ops.PURGE_PROJECT, project, ops.PurgeProjectQuery())["left"]:
                pass
        assert found[0] == found[1]
        sessions_found = [row for row in found[0].values() if isinstance(row, dict)]
        tally.update(
            merged=sum(row["user"] == "ada" for row in sessions_found),
            erased=sum(turn["erased"] for row in sessions_found for turn in row["turns"].values()),
            taken_back=sum(each[3] is None for row in sessions_found for each in row["feedback"]),
            spooled=sum(isinstance(act, Write) and act.spool is not None for act in plan),
            handed_over=sum(isinstance(act, HandOver) for act in plan),
            revised=sum(len(row["revisions"]) for row in sessions_found),
            forked=sum(any(current for _, current in row["branch"]) for row in sessions_found),
        )

    try:
        check()
    finally:
        store.close()
    met = ("merged", "erased", "taken_back", "spooled", "handed_over", "revised", "forked")
    assert all(tally[what] > EXAMPLES / 10 for what in met), tally
