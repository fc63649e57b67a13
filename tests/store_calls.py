"""Calls of a store with untyped queries and answers, a recorder of calls, and what lets texts expire."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from logging_store.operations import Operation
from logging_store.postgres.function_store import FunctionStore
from logging_store.store import Store
from logging_store.upkeep.retention import Expired, Retention


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


def expire_texts(store: Store, project: str = "default") -> Expired:
    """Remove the texts of a project's sessions, as if all of them had been idle for two days; return the counts."""
    assert isinstance(store, FunctionStore)
    keeper = Retention(store, lambda _: set())
    counted = Expired()
    for found in keeper.projects(project):
        later = found._replace(now=found.now + timedelta(days=2))
        for step in keeper.expire_texts(later, 1, erased_after=None, dry_run=False):
            counted = counted.plus(step)
    return counted
