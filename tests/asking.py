"""How tests ask a store: with any query, for an answer that they take apart as they like."""

from collections.abc import Mapping
from typing import Any

import pytest

from logging_store.operations import Operation
from logging_store.store import Store


def ask(
    store: Store, operation: Operation[Any, Any], project: str | None, query: Mapping[str, Any] | None = None
) -> Any:
    return store.ask(operation, project, query or {})


def operations_asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that the name of each operation joins that the store is asked for from now on."""
    names: list[str] = []
    answer = store.ask

    def noted(operation: Operation[Any, Any], project: str | None, query: Any) -> Any:
        names.append(operation.name)
        return answer(operation, project, query)

    monkeypatch.setattr(store, "ask", noted)
    return names
