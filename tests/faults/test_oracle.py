"""The oracle sees what it is there for: each kind of fault, in observations made up for it."""

import sqlite3
from pathlib import Path

import pytest

from tests.faults import reading
from tests.faults.history import History, Record
from tests.faults.oracle import Observation, judge

SESSION = Record("s", None, ("A title",))
BORN_FROM_A_LOG = Record("s", None, (None,))
FIRST = Record("s", "1", ("Hello?", "Hello!"))
SECOND = Record("s", "2", ("And?", "Well."))


@pytest.fixture
def history() -> History:
    """Return one where SESSION and FIRST were acknowledged and nobody knows what became of SECOND."""
    history = History()
    history.invoke([SESSION, FIRST, SECOND])
    history.settle(SESSION, "acknowledged", "created")
    history.settle(FIRST, "acknowledged", "created")
    history.settle(SECOND, "unknown")
    return history


def seen(*rows: Record, orphans: tuple[str, ...] = ()) -> Observation:
    return Observation("seen", rows, orphans)


@pytest.mark.parametrize("rows", [(SESSION, FIRST), (SECOND, FIRST, SESSION)])
def test_nothing_is_wrong_where_all_acknowledged_is_there_and_the_unknown_is_or_not(
    history: History, rows: tuple[Record, ...]
) -> None:
    assert judge(history, seen(*rows)) == []


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        ((SESSION, SECOND), "seen: lost: interaction '1' of 's'"),
        ((FIRST,), "seen: lost: session 's'"),
        ((SESSION, FIRST, FIRST), "seen: doubled: interaction '1' of 's' is there 2 times"),
        ((SESSION, SESSION, FIRST), "seen: doubled: session 's' is there 2 times"),
        ((SESSION, FIRST, SECOND, SECOND), "seen: doubled: interaction '2' of 's' is there 2 times"),
        (
            (SESSION, Record("s", "1", ("Hello?", "Hello"))),
            "seen: changed: interaction '1' of 's' says ('Hello?', 'Hello'), not ('Hello?', 'Hello!')",
        ),
        ((BORN_FROM_A_LOG, FIRST), "seen: changed: session 's' says (None,), not ('A title',)"),
        (
            (SESSION, FIRST, Record("s", "2", ("And?", None))),
            "seen: changed: interaction '2' of 's' says ('And?', None), not ('And?', 'Well.')",
        ),
        ((SESSION, FIRST, Record("s", "3", ("Who?", "Me"))), "seen: invented: interaction '3' of 's'"),
        ((SESSION, FIRST, Record("t", None, (None,))), "seen: invented: session 't'"),
        ((SESSION, FIRST, Record("t", "1", FIRST.facts)), "seen: invented: interaction '1' of 't'"),
    ],
)
def test_one_fault_is_one_sentence(history: History, rows: tuple[Record, ...], verdict: str) -> None:
    assert judge(history, seen(*rows)) == [verdict]


def test_an_orphan(history: History) -> None:
    assert judge(history, seen(SESSION, FIRST, orphans=("an id",))) == ["seen: orphan: an id has no session"]


def test_two_answers_that_claim_to_have_made_the_same_row(history: History) -> None:
    history.settle(FIRST, "acknowledged", "created")
    assert judge(history, seen(SESSION, FIRST)) == [
        "seen: made twice: interaction '1' of 's' was answered `created` 2 times"
    ]


def test_an_acknowledgement_outweighs_what_later_attempts_came_to(history: History) -> None:
    history.settle(FIRST, "unknown")
    history.settle(FIRST, "failed")
    assert judge(history, seen(SESSION)) == ["seen: lost: interaction '1' of 's'"]


def test_a_session_born_from_an_acknowledged_log_has_to_be_there() -> None:
    history = History()
    history.invoke([FIRST])
    history.settle(FIRST, "acknowledged", "created")
    assert judge(history, seen(BORN_FROM_A_LOG, FIRST)) == []
    assert judge(history, seen(FIRST)) == ["seen: lost: session 's'"]
    assert judge(history, seen(SESSION, FIRST)) == ["seen: changed: session 's' says ('A title',), not (None,)"]


def test_a_create_of_unknown_outcome_may_have_left_its_title_or_not() -> None:
    history = History()
    history.invoke([SESSION, FIRST])
    history.settle(SESSION, "unknown")
    history.settle(FIRST, "acknowledged", "created")
    assert judge(history, seen(SESSION, FIRST)) == judge(history, seen(BORN_FROM_A_LOG, FIRST)) == []


def test_what_was_begun_and_never_answered_was_attempted() -> None:
    history = History()
    history.invoke([FIRST])
    assert judge(history, seen(BORN_FROM_A_LOG, FIRST)) == judge(history, seen()) == []


def test_what_the_spool_still_holds_is_seen(tmp_path: Path) -> None:
    assert reading.waiting(tmp_path / "spool") == reading.dead_letters(tmp_path / "spool") == []
    (tmp_path / "spool-1.lock").touch()
    assert reading.waiting(tmp_path) == []
    (tmp_path / "spool-1.sqlite3").touch()
    assert reading.waiting(tmp_path) == ["spool-1.sqlite3 is left in the spool"]


def test_dead_letters_are_seen(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "dead-letters.sqlite3")
    connection.execute("create table dead_letters (session_id, record_id, receipt)")
    connection.commit()
    assert reading.dead_letters(tmp_path) == []
    connection.execute("insert into dead_letters values ('s', '1', '{}')")
    connection.commit()
    connection.close()
    assert reading.dead_letters(tmp_path) == ["dead letter: ('s', '1', '{}')"]
