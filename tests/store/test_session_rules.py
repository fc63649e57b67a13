"""What a further record may say of a stored session: what fills it, what contradicts it, and what says nothing."""

from typing import Any

import pytest

from logging_store import operations as ops
from logging_store.batches import Batch
from logging_store.store import Store
from tests.conftest import PROJECT
from tests.store.test_store_conformance import interaction_row, new_id, session_row
from tests.store_calls import ask


def write(store: Store, session: str, **facts: object) -> tuple[str, tuple[str, ...]]:
    (receipt,) = store.write(Batch(PROJECT, sessions=[session_row(session, **facts)])).sessions
    return receipt.receipt, receipt.fields


def stored(store: Store, session: str) -> dict[str, Any]:
    found: dict[str, Any] = ask(store, ops.SESSION, PROJECT, {"session_id": session})
    return found


@pytest.mark.parametrize("status", ["closed", "locked"])
def test_an_open_session_may_get_another_status_and_open_contradicts_none(store: Store, status: str) -> None:
    session = new_id()
    assert write(store, session, status="open") == ("created", ())
    assert write(store, session, status=status) == ("filled", ("status",))
    assert write(store, session, status="open") == ("duplicate", ())
    assert write(store, session, status=status) == ("duplicate", ())
    other = {"closed": "locked", "locked": "closed"}[status]
    assert write(store, session, status=other) == ("conflict", ("status",))
    assert stored(store, session)["status"] == status


def test_a_plan_fills_what_is_empty_and_contradicts_nothing(store: Store) -> None:
    session = new_id()
    write(store, session, user_id="ada", scheduled_on="2026-11-21")
    assert write(store, session, implicit=True, user_id="bob", scheduled_on="2026-11-22", status="locked") == (
        "duplicate", (),
    )  # fmt: skip
    found = stored(store, session)
    assert (found["user_id"], found["scheduled_on"], found["status"]) == ("ada", "2026-11-21", "open")


def test_what_a_plan_said_gives_way_to_what_a_caller_says(store: Store) -> None:
    session = new_id()
    write(store, session, implicit=True, user_id="bob", scheduled_on="2026-11-22", status="locked")
    assert stored(store, session)["implicit"] is True
    receipt, fields = write(store, session, user_id="ada", scheduled_on="2026-11-21")
    assert (receipt, fields) == ("filled", ("scheduled_on", "user_id"))
    found = stored(store, session)
    assert (found["user_id"], found["scheduled_on"], found["status"]) == ("ada", "2026-11-21", "open")
    assert found["implicit"] is False
    assert write(store, session, user_id="bob") == ("conflict", ("user_id",))
    assert write(store, session, scheduled_on="2026-11-22") == ("conflict", ("scheduled_on",))


def test_a_session_of_a_turn_becomes_explicit_by_a_record_that_says_nothing_more(store: Store) -> None:
    session = new_id()
    store.write(Batch(PROJECT, interactions=[interaction_row(session, new_id(), prompt="Hello")]))
    assert stored(store, session)["implicit"] is True
    assert write(store, session) == ("filled", ())
    assert stored(store, session)["implicit"] is False
    assert write(store, session) == ("duplicate", ())
    assert write(store, session, implicit=True) == ("duplicate", ())
    assert stored(store, session)["implicit"] is False
