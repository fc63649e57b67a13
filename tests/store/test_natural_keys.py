"""The second line of defence: a row written past the service holds a key that a record needs."""

import psycopg
import pytest

from logging_store.batches import Batch
from logging_store.errors import Conflict
from logging_store.store import Store
from tests.conftest import PROJECT, Backend
from tests.store.test_store_conformance import interaction_row, new_id, session_row

pytestmark = pytest.mark.every_store


def test_a_conflict_on_a_sessions_key_names_its_constraint(backend: Backend, store: Store) -> None:
    stranger, derived, one = new_id(), new_id(), new_id()
    with psycopg.connect(backend.database) as connection:
        connection.execute(
            "insert into turnlog.ai_sessions (project, id, key, created_at) values (%s, %s, 'k', now())",
            [PROJECT, stranger],
        )
    receipts = store.write(
        Batch(
            PROJECT,
            sessions=[session_row(derived, key="k")],
            interactions=[
                interaction_row(derived, one, prompt="Hello"),
                interaction_row(new_id(), one, prompt="Unharmed"),
            ],
        )
    )
    session, child, other = receipts
    for clash in (session, child):
        assert clash.receipt == "conflict"
        assert clash.constraint == "ai_sessions_project_key_key"
        assert clash.columns == ("project", "key")
        assert clash.attempted == {"project": PROJECT, "key": "k"}
        assert str(clash.held_by) == stranger
    assert other.receipt == "created"


def test_a_conflict_on_an_interactions_key_names_its_constraint(backend: Backend, store: Store) -> None:
    session, stranger, derived = new_id(), new_id(), new_id()
    store.write(Batch(PROJECT, interactions=[interaction_row(session, new_id(), prompt="First")]))
    with psycopg.connect(backend.database) as connection:
        connection.execute(
            "insert into turnlog.ai_interactions (project, session_id, id, key, created_at)"
            " values (%s, %s, %s, 'k', now())",
            [PROJECT, session, stranger],
        )
    clash, other = store.write(
        Batch(
            PROJECT,
            interactions=[
                interaction_row(session, derived, key="k", prompt="Hello"),
                interaction_row(session, new_id(), prompt="Unharmed"),
            ],
        )
    ).interactions
    assert (clash.receipt, clash.constraint) == ("conflict", "ai_interactions_session_key_key")
    assert clash.attempted == {"project": PROJECT, "session_id": session, "key": "k"}
    assert clash.held_by == stranger
    assert other.receipt == "created"


def test_rows_of_one_interaction_with_and_without_such_a_key_get_their_own_receipts(
    backend: Backend, store: Store
) -> None:
    session, derived = new_id(), new_id()
    store.write(Batch(PROJECT, interactions=[interaction_row(session, new_id(), prompt="First", key="k")]))
    rows = [
        interaction_row(session, derived, key="k", prompt="Hello", response="Hi"),
        interaction_row(session, derived, prompt="Hello"),
    ]
    with pytest.raises(Conflict):  # to give it that key: then they are written by themselves
        store.write(Batch(PROJECT, interactions=rows))
    receipts = [store.write(Batch(PROJECT, interactions=[row])).interactions[0].receipt for row in rows]
    assert receipts == ["conflict", "created"]
