"""A record erased while the drain delivers it leaves no dead letter; others still do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from logging_store import operations as ops
from logging_store.batches import Batch
from logging_store.errors import StoreUnavailable
from logging_store.spool import Spool
from tests.spool.conftest import delivered, is_on_disk
from tests.spool.flaky_store import PROJECT, FlakyStore
from tests.store_calls import ask

SESSION, OTHER = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"
TURN = "00000000-0000-0000-0000-000000000001"
AT = "2026-11-21T10:00:00+00:00"

_Erase = Callable[[Spool], Any]


@pytest.fixture
def deliver_and(
    spool: Spool, inner: FlakyStore, monkeypatch: pytest.MonkeyPatch
) -> Callable[[_Erase], list[tuple[str, str]]]:
    """Return a way to erase something between a refusal by the store and its dead letter; it answers with the letters.

    In two entries wait records of two sessions, both refused, since they contradict what is stored.
    """
    turns = [{"session_id": id_, "id": TURN, "created_at": AT, "participant": "ada"} for id_ in (SESSION, OTHER)]
    users = zip((SESSION, OTHER), ("ada", "bob"), strict=True)
    sessions = [{"id": id_, "user_id": user, "created_at": AT} for id_, user in users]
    inner.inner.write(Batch(PROJECT, sessions, [turn | {"prompt": "stored"} for turn in turns]))
    inner.away = StoreUnavailable("nobody answers")
    for turn in turns:
        stub = {"id": turn["session_id"], "implicit": True, "created_at": AT}
        spool.write(Batch(PROJECT, [stub], [turn | {"prompt": f"a secret of {turn['session_id']}"}]))
    add = spool.dead_letters.add

    def deliver(erase: _Erase) -> list[tuple[str, str]]:
        reports: list[Any] = []

        def erased_meanwhile(*arguments: Any) -> None:
            if not reports:
                reports.append(erase(spool))
            add(*arguments)

        monkeypatch.setattr(spool.dead_letters, "add", erased_meanwhile)
        inner.away = None
        delivered(spool)
        assert reports, "a record was refused"
        return [(letter.session_id, letter.batch.interactions[0]["prompt"]) for letter in spool.dead_letters.list()]

    return deliver


@pytest.mark.parametrize(
    ("erase", "letters"),
    [
        (lambda spool: ask(spool, ops.ERASE, PROJECT, {"session_id": SESSION}), [(OTHER, f"a secret of {OTHER}")]),
        (lambda spool: ask(spool, ops.ERASE, PROJECT, {"session_id": OTHER}), [(SESSION, f"a secret of {SESSION}")]),
        (lambda spool: ask(spool, ops.ERASE_USER, PROJECT, {"user_id": "ada", "begin": True}), []),
    ],
    ids=["session", "another session", "user"],
)
def test_a_record_erased_during_its_rejection_leaves_no_dead_letter(
    deliver_and: Callable[[_Erase], list[tuple[str, str]]],
    tmp_path: Path,
    erase: _Erase,
    letters: list[tuple[str, str]],
) -> None:
    assert deliver_and(erase) == letters
    kept = {prompt for _, prompt in letters}
    for id_ in (SESSION, OTHER):
        secret = f"a secret of {id_}"
        assert is_on_disk(secret.encode(), tmp_path) == (secret in kept)
