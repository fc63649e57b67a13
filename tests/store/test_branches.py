"""The tree of a session: the database and the spool find what the plain model finds, quickly and for any input."""

import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logging_store.spool import branches
from tests import branch_model
from tests.branch_model import Turn
from tests.conftest import PROJECT

pytestmark = pytest.mark.slow

SESSION = "5e550000-0000-4000-8000-000000000001"
IDS = [f"10000000-0000-4000-8000-{n:012}" for n in range(9)]
UNKNOWN = ["00000000-0000-4000-8000-00000000000f", "f0000000-0000-4000-8000-00000000000f"]
BEGAN = datetime(2026, 11, 21, tzinfo=UTC)
EXAMPLES = 400
MANY = 10_000
QUICK_S = 2  # a tenth of it on an idle machine; a join of each with each takes minutes


#: Status, error and response of those that are answered, and of those that aren't.
State = tuple[str | None, str | None, str | None]
ANSWERED: list[State] = [(None, None, "r"), ("pending", None, "r"), ("completed", None, None)]
UNANSWERED: list[State] = [
    (None, None, None),
    ("failed", None, "r"),
    (None, "E", None),
    ("abandoned", None, "r"),
    ("pending", None, ""),
]


def state_of(turn: Turn) -> State:
    states = ANSWERED if turn.answers else UNANSWERED
    return states[int(turn.id[-1], 16) % len(states)]


@st.composite
def sessions(draw: st.DrawFn) -> list[Turn]:
    """Draw interactions that name any others, unknown ones and themselves, said and counted in any order."""
    ids = draw(st.lists(st.sampled_from(IDS), min_size=1, unique=True))
    names = st.none() | st.sampled_from([*ids, *UNKNOWN])
    is_counted = draw(st.booleans())

    def at(most: int) -> st.SearchStrategy[datetime]:
        return st.integers(0, most).map(lambda second: BEGAN + timedelta(seconds=second))

    return [
        Turn(
            id_,
            created_at=draw(at(20)),
            started_at=draw(st.none() | at(20)),
            turn=draw(st.none() | st.integers(0, 5)) if is_counted else None,
            reply_to=draw(names),
            alternative_to=draw(st.none() | names),
            chosen_at=draw(st.none() | st.none() | at(30)),
            asks=draw(st.booleans() | st.just(value=True)),
            answers=draw(st.booleans() | st.just(value=True)),
        )
        for id_ in ids
    ]


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "insert into turnlog.ai_sessions (project, id, created_at) values (%s, %s, now())", (PROJECT, SESSION)
        )
        yield connection


def store_turns(connection: psycopg.Connection, turns: Sequence[Turn]) -> None:
    connection.execute("delete from turnlog.ai_interactions")
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into turnlog.ai_interactions (project, session_id, id, prompt, response, created_at, started_at,"
            " turn, reply_to, alternative_to, chosen_at, status, error)"
            " values (%s, %s, %s, %s, to_jsonb(%s::text), %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    PROJECT, SESSION, one.id, '"p"' if one.asks else None, response, one.created_at, one.started_at,
                    one.turn, one.reply_to, one.alternative_to, one.chosen_at, status, error,
                )
                for one in turns
                for status, error, response in [state_of(one)]
            ],
        )  # fmt: skip


def read(connection: psycopg.Connection, through: str | None = None) -> list[tuple[Any, ...]]:
    return connection.execute(
        "select id::text, follows::text, on_branch, is_current from turnlog.branches(%s, %s, %s)"
        " order by turn, at, arrived, id",
        (PROJECT, SESSION, through),
    ).fetchall()


def spooled_tree(turns: Sequence[Turn]) -> branches.Tree:
    rows: list[Any] = [
        {
            "interaction_id": one.id, "key": None, "turn": one.turn, "prompt": "p" if one.asks else None,
            "created_at": one.created_at.isoformat(), "reply_to": one.reply_to, "alternative_to": one.alternative_to,
            "started_at": one.started_at and one.started_at.isoformat(),
            "chosen_at": one.chosen_at and one.chosen_at.isoformat(), "erased_at": None, "response": response,
            "status": status or ("failed" if error else "completed" if response is not None else "pending"),
        }
        for one in turns
        for status, error, response in [state_of(one)]
    ]  # fmt: skip
    return branches.Tree([branches.node_of(row) for row in rows])


def test_database_and_spool_find_the_tree_that_the_model_finds(connection: psycopg.Connection) -> None:
    met = {"linear": 0, "forks": 0}

    @settings(max_examples=EXAMPLES, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(turns=sessions(), data=st.data())
    def check(turns: list[Turn], data: st.DataObject) -> None:
        store_turns(connection, turns)
        expected = branch_model.tree(turns)
        by_id = {one.id: one for one in turns}
        spooled = spooled_tree([by_id[id_] for id_ in expected.order])
        assert spooled.follows == expected.follows
        through = data.draw(st.none() | st.sampled_from(expected.order))
        branch, current = expected.branch(through), expected.branch()
        assert spooled.branch(through) == set(branch)
        for id_ in expected.order:
            listed = [each["interaction_id"] for each in spooled.alternatives(id_, set())]
            assert set(listed or [id_]) == set(expected.alternatives(id_))
        rows = read(connection, through)
        if not rows:
            assert branch == expected.order, "all of a linear session is its branch"
            met["linear"] += 1
            return
        assert [(id_, follows) for id_, follows, *_ in rows] == [(id_, expected.follows[id_]) for id_ in expected.order]
        assert [id_ for id_, _, on_branch, _ in rows if on_branch] == branch
        assert [id_ for id_, *_, is_current in rows if is_current] == current
        met["forks"] += len(branch) < len(turns)

    check()
    assert all(count > EXAMPLES / 10 for count in met.values()), met


SHAPES: dict[str, Any] = {
    "each replies to the one before": lambda n: {"reply_to": n - 1 if n else None},
    "one in the middle isn't there": lambda n: {"reply_to": MANY if n == MANY // 2 else n - 1 if n else None},
    "one fork": lambda n: {"reply_to": MANY // 2 if n == MANY - 1 else n - 1 if n else None},
    "all stand in one place": lambda n: {"alternative_to": 0 if n else None},
    "each stands in the place of the one before": lambda n: {"alternative_to": n - 1 if n else None},
    "each stands in the place of the next one": lambda n: {"alternative_to": n + 1 if n + 1 < MANY else None},
    "each replies to the next one": lambda n: {"reply_to": n + 1 if n + 1 < MANY else None},
    "one circle": lambda n: {"reply_to": (n + 1) % MANY},
    "pairs in circles, counted against time": lambda n: {"reply_to": n ^ 1, "turn": MANY - n},
    "none is there": lambda n: {"reply_to": MANY + n},
    "one fork, and no answers": lambda n: {"alternative_to": 0 if n == 1 else None, "answers": n == 0},
    "two branches, chosen in turn": lambda n: {"alternative_to": 0 if n == 1 else None, "is_chosen": n % 100 == 50},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_long_session_is_quick_whatever_its_shape(connection: psycopg.Connection, shape: str) -> None:
    def name(number: int | None) -> str | None:
        return None if number is None else str(uuid.UUID(int=number + 1))

    def turn_of(n: int) -> Turn:
        facts = SHAPES[shape](n)
        return Turn(
            str(uuid.UUID(int=n + 1)),
            BEGAN + timedelta(seconds=n),
            turn=facts.get("turn"),
            reply_to=name(facts.get("reply_to")),
            alternative_to=name(facts.get("alternative_to")),
            answers=facts.get("answers", True),
            chosen_at=BEGAN + timedelta(seconds=n + 99.5) if facts.get("is_chosen") else None,
        )

    turns = [turn_of(n) for n in range(MANY)]
    store_turns(connection, turns)
    began = time.monotonic()
    rows = read(connection)
    assert time.monotonic() - began < QUICK_S
    assert len(rows) in {0, MANY}
    tree = spooled_tree(sorted(turns, key=lambda one: (one.turn or 0, one.said)))
    assert time.monotonic() - began < 2 * QUICK_S
    on_branch = {id_ for id_, _, on_branch, _ in rows if on_branch} or {one.id for one in turns}
    assert tree.branch() == on_branch


def test_a_linear_session_is_found_by_the_index(connection: psycopg.Connection) -> None:
    store_turns(connection, [Turn(str(uuid.UUID(int=n + 1)), BEGAN) for n in range(MANY)])
    connection.execute("analyze turnlog.ai_interactions")
    plan = connection.execute(
        "explain select from turnlog.ai_interactions where project = %s and session_id = %s"
        " and (reply_to is not null or alternative_to is not null)",
        (PROJECT, SESSION),
    ).fetchall()
    assert "ai_interactions_named_idx" in str(plan)
    assert read(connection) == []
