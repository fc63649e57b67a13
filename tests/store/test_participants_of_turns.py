"""Whoever a turn names takes part in its session, whether its prompt is a text or has a history of its own."""

from typing import Any

import pytest

from logging_store import operations as ops
from logging_store.batches import Batch
from logging_store.store import Store
from tests.conftest import PROJECT
from tests.store.test_store_conformance import interaction_row, new_id
from tests.store_calls import ask

LIST = [{"role": "system", "content": "Be short"}, {"role": "user", "content": "Hello"}]


@pytest.mark.parametrize("more", [{"prompt": "Hello"}, {"prompt": LIST}, {"prompt": "Hello", "context": LIST}])
def test_a_turn_names_its_participant(store: Store, more: dict[str, Any]) -> None:
    session, silent = new_id(), new_id()
    store.write(Batch(PROJECT, interactions=[interaction_row(session, new_id(), **more, participant="ada")]))
    store.write(Batch(PROJECT, interactions=[interaction_row(silent, new_id(), **more)]))
    for each, names in ((session, ["ada"]), (silent, [])):
        found = ask(store, ops.PARTICIPANTS, PROJECT, {"session_id": each})["participants"]
        assert [row["participant"] for row in found] == names
