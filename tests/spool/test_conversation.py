"""A page of a conversation while some of it is spooled and the store answers."""

from collections.abc import Callable

import pytest

from logging_store import operations as ops
from logging_store.batches import Batch
from logging_store.errors import StoreUnavailable
from logging_store.spool import Spool
from tests.spool.conftest import eventually
from tests.spool.flaky_store import PROJECT, FlakyStore, batch_of
from tests.store_calls import ask

SESSION = "00000000-0000-0000-0000-00000000000c"
QUERY = {"session_id": SESSION, "limit": 10, "feedback": 10, "revisions": 10}


@pytest.fixture
def spooled(spool: Spool, inner: FlakyStore) -> Callable[[Batch], None]:
    """Return a function that has a batch spooled and not delivered, while the store answers."""

    def write(batch: Batch) -> None:
        inner.refuses = lambda _: StoreUnavailable("not now")
        assert {receipt.receipt for receipt in spool.write(batch)} == {"spooled"}
        eventually(lambda: spool.breaker.is_closed, "the probe succeeds")

    return write


def test_spooled_turns_are_on_the_page_of_a_stored_session(spool: Spool, spooled: Callable[[Batch], None]) -> None:
    spool.write(batch_of("stored", session_id=SESSION))
    spooled(batch_of("spooled", session_id=SESSION, participant="ada", created_at="2026-11-21T10:00:01+00:00"))
    page = ask(spool, ops.CONVERSATION, PROJECT, QUERY)
    assert [(row["prompt"], row["spooled"]) for row in page["transcript"]["interactions"]] == [
        ("stored", False),
        ("spooled", True),
    ]
    assert [row["participant"] for row in page["participants"]["participants"]] == ["ada"]


def test_a_page_of_a_stored_session_is_the_stores_where_nothing_is_spooled(
    spool: Spool, spooled: Callable[[Batch], None]
) -> None:
    spool.write(batch_of("stored", session_id=SESSION))
    spooled(batch_of("elsewhere"))
    page = ask(spool, ops.CONVERSATION, PROJECT, QUERY)
    assert [(row["prompt"], row["spooled"]) for row in page["transcript"]["interactions"]] == [("stored", False)]
    assert page["outline"] is not None
