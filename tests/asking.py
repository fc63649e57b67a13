"""How tests ask a store: with any query, for an answer that they take apart as they like."""

from collections.abc import Mapping
from typing import Any

from logging_store.operations import Operation
from logging_store.store import Store


def ask(
    store: Store, operation: Operation[Any, Any], project: str | None, query: Mapping[str, Any] | None = None
) -> Any:
    return store.ask(operation, project, query or {})
