"""Reads never take the last connections of a store: two are for writes."""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from logging_store import operations as ops
from logging_store.batches import Batch
from logging_store.errors import StoreBusy
from logging_store.postgres.function_store import FunctionStore

PATIENCE_S = 60.0
POOL = 5


class Counting(FunctionStore):
    """Answers nothing until it is let go; `under_way` counts the calls by function."""

    def __init__(self, deadline_s: float = PATIENCE_S) -> None:
        super().__init__(deadline_s, POOL)
        self.began: list[str] = []
        self.go = threading.Event()
        self.changed = threading.Condition()

    def _call(self, function: str, value: Mapping[str, Any], deadline: float) -> Any:  # noqa: ARG002
        with self.changed:
            self.began.append(function)
            self.changed.notify_all()
        if function == "folders":
            assert self.go.wait(PATIENCE_S)
        return {"folders": [], "after": None, "sessions": "created"} | ({"key": None} if function == "key" else {})

    def _call_apart(self, function: str, deadline: float) -> Any:
        return self._call(function, {}, deadline)

    def close(self) -> None:
        """Nothing is open."""

    def wait_for(self, calls: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.began) >= calls, PATIENCE_S)


def read(store: FunctionStore) -> Any:
    return store.ask(ops.FOLDERS, "p", ops.FoldersQuery(limit=1))


def test_reads_leave_two_connections_and_writes_and_keys_pass() -> None:
    store = Counting()
    with ThreadPoolExecutor(POOL * 2) as pool:
        reads = [pool.submit(read, store) for _ in range(POOL * 2)]
        try:
            store.wait_for(POOL - 2)
            batch = Batch("p", [{"id": "00000000-0000-0000-0000-000000000000"}])
            assert [each.receipt for each in store.write(batch).sessions] == ["created"]
            store.ask(ops.KEY, None, ops.KeyQuery(digest="0"))
            assert store.began == ["folders"] * (POOL - 2) + ["write", "key"]
        finally:
            store.go.set()
        assert len([each.result(PATIENCE_S) for each in reads]) == POOL * 2


def test_a_read_without_a_connection_is_busy_and_no_sign_of_an_outage() -> None:
    store = Counting(deadline_s=0.05)
    store.deadline_s = 0.05
    with ThreadPoolExecutor(POOL - 2) as pool:
        reads = [pool.submit(read, store) for _ in range(POOL - 2)]
        try:
            store.wait_for(POOL - 2)
            with pytest.raises(StoreBusy):
                read(store)
        finally:
            store.go.set()
        for each in reads:
            each.result(PATIENCE_S)
