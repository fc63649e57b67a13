"""Calls of a store with untyped queries and answers, and a recorder of calls."""

from collections.abc import Mapping
from typing import Any

import pytest

from logging_store.operations import Operation
from logging_store.store import Store


def ask(
    store: Store, operation: Operation[Any, Any], project: str | None, query: Mapping[str, Any] | None = None
) -> Any:
    return store.ask(operation, project, query or {})


def record_operations(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the names of the operations that the store runs from now on, in the returned list."""
    names: list[str] = []
    answer = store.ask

    def recorded(operation: Operation[Any, Any], project: str | None, query: Any) -> Any:
        names.append(operation.name)
        return answer(operation, project, query)

    monkeypatch.setattr(store, "ask", recorded)
    return names
