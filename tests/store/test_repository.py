"""What the repository adds to a store."""

from typing import Any

import pytest

from logging_store import errors
from logging_store import operations as ops
from logging_store.repository import ConversationRepository
from tests.conftest import PROJECT


class StoreOfLongTurns:
    """A store that can't build a page of more than `most` interactions into one answer."""

    def __init__(self, most: int) -> None:
        self.most = most

    def ask(self, operation: ops.Operation[Any, Any], project: str | None, query: Any) -> Any:
        assert (operation, project) == (ops.TRANSCRIPT, PROJECT)
        if query["limit"] > self.most:
            raise errors.Invalid("total size of jsonb array elements exceeds the maximum (54000)")
        page = [{"prompt": str(n)} for n in range(query["limit"])]
        return {"session": {"session_id": query["session_id"], "erased_at": None}, "interactions": page, "after": None}

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not of this test")


def test_a_page_too_large_for_one_answer_is_shortened() -> None:
    repository = ConversationRepository(StoreOfLongTurns(most=30), PROJECT)
    assert len(repository.transcript("s", {"limit": 100})["interactions"]) == 25


def test_a_turn_too_large_for_any_answer_is_an_error() -> None:
    with pytest.raises(errors.Invalid, match="exceeds the maximum"):
        ConversationRepository(StoreOfLongTurns(most=0), PROJECT).transcript("s", {"limit": 100})
