"""Records received before their user was erased are rejected when another machine delivers them; later ones aren't."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app import create_app
from conversation.settings import Settings
from logging_store import operations as ops
from logging_store.batches import Batch
from logging_store.errors import StoreBusy, StoreUnavailable
from logging_store.spool import CircuitBreaker, Limits, Spool
from tests.conftest import Backend
from tests.http_calls import KEYLESS, create, in_path, log, problem, transcript
from tests.spool.conftest import delivered, eventually
from tests.spool.flaky_store import PROJECT, FlakyStore
from tests.store_calls import ask

BEFORE, AFTER = "2026-01-01T00:00:00+00:00", "2099-01-01T00:00:00+00:00"
SESSION, OTHER = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"
TURN = "00000000-0000-0000-0000-000000000001"
TOKEN = "token:" + "0" * 64
AWAY = StoreUnavailable("nobody answers")


class Machine:
    """One of several machines over one database: its spool, and a client of its service."""

    def __init__(self, backend: Backend, folder: Path) -> None:
        self.inner = FlakyStore(backend.open())
        breaker = CircuitBreaker(shortest_s=0.01, longest_s=0.05)
        self.spool = Spool(self.inner, folder, Limits(min_free_bytes=0), breaker=breaker)
        self.client = create_app(Settings.from_mapping(KEYLESS), self.spool).test_client()

    def come_back(self) -> None:
        self.inner.away = None
        delivered(self.spool)


@pytest.fixture
def machines(backend: Backend, tmp_path: Path) -> Iterator[list[Machine]]:
    with ExitStack() as closing:
        found = [Machine(backend, tmp_path / str(n) / "spool") for n in range(2)]
        for machine in found:
            closing.callback(machine.spool.close)
        yield found


def test_records_spooled_on_another_machine_are_rejected_on_delivery(machines: list[Machine]) -> None:
    here, there = machines
    create(here.client, session_id="bob's", user_id="bob")
    log(here.client, session_id="early", prompt="before anybody knew whose it is")
    there.inner.away = AWAY
    create(there.client, session_id="unseen", user_id="ada", title="a secret")
    create(there.client, session_id="early", user_id="ada")
    log(there.client, session_id="unseen", interaction_id="1", prompt="without a name")
    log(there.client, session_id="bob's", interaction_id="2", prompt="Ada says", participant="ada")
    there.client.put(in_path("bob's") + "/participants/ada", json={"role": "guest"})
    there.client.post("/v1/folders", json={"folder_id": "f", "user_id": "ada", "name": "Ada's"})
    log(there.client, session_id="bob's", interaction_id="3", prompt="Bob says", participant="bob")

    assert here.client.delete("/v1/users/ada").status_code == 200
    create(here.client, session_id="afterwards", user_id="ada")
    there.come_back()

    assert [problem(here.client.get(in_path(name)))["status"] for name in ("unseen", "early")] == [410, 410]
    assert [row["prompt"] for row in transcript(here.client, "bob's")] == ["Bob says"]
    participants = here.client.get(in_path("bob's") + "/participants").get_json()["participants"]
    assert [row["participant"] for row in participants] == ["bob"]
    assert here.client.get("/v1/folders/f").status_code == 404
    assert there.spool.dead_letters.count() == 0, "it is forgotten there as well"
    assert here.client.get(in_path("afterwards")).get_json()["user_id"] == "ada"
    assert problem(log(here.client, session_id="unseen", prompt="more"))["status"] == 410


def test_split_batches_are_rejected_in_parts(machines: list[Machine]) -> None:
    # the session's row and its turns are in different entries, delivered one after another
    here, there = machines
    there.inner.away = AWAY
    create(there.client, session_id="unseen", user_id="ada")
    here.client.delete("/v1/users/ada")
    there.come_back()
    there.inner.away = AWAY
    log(there.client, session_id="unseen", prompt="without a name")
    there.come_back()
    assert problem(here.client.get(in_path("unseen")))["status"] == 410


def test_records_spooled_after_the_erasure_are_delivered(machines: list[Machine]) -> None:
    here, there = machines
    here.client.delete("/v1/users/ada")
    there.inner.away = AWAY
    create(there.client, session_id="new", user_id="ada")
    log(there.client, session_id="new", prompt="a new start", participant="ada")
    there.come_back()
    assert [row["prompt"] for row in transcript(here.client, "new")] == ["a new start"]
    assert here.client.get("/v1/sessions?user_id=ada").get_json()["sessions"][0]["key"] == "new"


def late(store: Any, **kinds: Any) -> list[tuple[str, str | None]]:
    receipts = store.write(Batch(PROJECT, late=True, **kinds))
    return [(receipt.receipt, receipt.reason) for receipt in receipts]


REFUSED, CREATED = ("rejected", "erased"), ("created", None)


def test_each_row_gets_its_own_receipt(machines: list[Machine]) -> None:
    machines[0].client.delete("/v1/users/ada")
    store = machines[0].inner.inner
    sessions = [
        {"id": SESSION, "user_id": "ada", "created_at": BEFORE},
        {"id": OTHER, "user_id": "bob", "created_at": BEFORE},
    ]
    people = [{"session_id": OTHER, "participant": name, "created_at": BEFORE} for name in ("bob", "ada", "eve")]
    turns = [
        {"session_id": session, "id": TURN, "prompt": "Hello", "created_at": BEFORE} for session in (SESSION, OTHER)
    ]
    assert late(store, sessions=sessions, participants=people, interactions=turns) == [
        REFUSED, CREATED, CREATED, REFUSED, CREATED, REFUSED, CREATED,
    ]  # fmt: skip


def test_rows_claimed_by_the_user_are_rejected_and_those_of_others_are_not(machines: list[Machine]) -> None:
    machines[0].client.delete("/v1/users/ada")
    store = machines[0].inner.inner
    turn = {"session_id": SESSION, "id": TURN, "prompt": "Hello", "created_at": BEFORE, "claim": "user:ada"}
    stub = {"id": SESSION, "implicit": True, "created_at": BEFORE, "claim": "user:ada"}
    assert late(store, sessions=[stub], interactions=[turn]) == [REFUSED, REFUSED]
    unclaimed = {name: value for name, value in turn.items() if name != "claim"} | {"id": OTHER}
    stub = {"id": SESSION, "implicit": True, "created_at": BEFORE}
    assert late(store, sessions=[stub], interactions=[unclaimed]) == [CREATED, CREATED]


def test_a_session_that_only_a_token_claims_leaves_a_tombstone(machines: list[Machine]) -> None:
    machines[0].client.delete("/v1/users/ada")
    store = machines[0].inner.inner
    claim = {"claim": TOKEN, "created_at": BEFORE}
    turn = {"session_id": SESSION, "id": TURN, "prompt": "Hello", **claim}
    assert late(store, sessions=[{"id": SESSION, "user_id": "ada", **claim}], interactions=[turn]) == [REFUSED, REFUSED]
    assert late(store, interactions=[turn | {"id": OTHER}]) == [REFUSED]


@pytest.mark.parametrize("claim", ["user:ada", TOKEN])
@pytest.mark.parametrize("kind", ["sessions", "folders"])
def test_a_claim_rejects_no_other_row_of_the_batch(machines: list[Machine], claim: str, kind: str) -> None:
    machines[0].client.delete("/v1/users/ada")
    store = machines[0].inner.inner
    rows: dict[str, list[dict[str, Any]]] = {
        "sessions": [{"id": SESSION, "user_id": "bob", "created_at": BEFORE}],
        "interactions": [{"session_id": SESSION, "id": TURN, "prompt": "Bob's", "created_at": BEFORE}],
    }
    if kind == "folders":
        planned = {"id": SESSION, "session_number": 1, "created_at": BEFORE}
        rows = {"folders": [{"id": OTHER, "created_at": BEFORE, "sessions": [planned | {"folder_id": OTHER}]}]}
    rows["sessions"] = [
        *rows.get("sessions", []), {"id": SESSION, "user_id": "ada", "created_at": BEFORE, "claim": claim}
    ]  # fmt: skip
    receipts = late(store, **rows)
    assert Counter(receipts) == {CREATED: len(receipts) - 1, REFUSED: 1}
    found = ask(store, ops.SESSION, PROJECT, {"session_id": SESSION})
    assert found is not None
    assert found["erased_at"] is None


def test_a_session_created_after_the_erasure_keeps_new_records(machines: list[Machine]) -> None:
    machines[0].client.delete("/v1/users/ada")
    store = machines[0].inner.inner
    store.write(Batch(PROJECT, sessions=[{"id": SESSION, "user_id": "ada", "created_at": AFTER}]))
    turns = [
        {"session_id": SESSION, "id": SESSION, "prompt": "old", "created_at": BEFORE},
        {"session_id": SESSION, "id": OTHER, "prompt": "new", "created_at": AFTER},
    ]
    assert late(store, interactions=turns) == [REFUSED, CREATED]


def test_a_cleared_folder_is_not_filled_by_old_records(machines: list[Machine]) -> None:
    client, store = machines[0].client, machines[0].inner.inner
    folder = client.post("/v1/folders", json={"folder_id": "f", "user_id": "ada"}).get_json()["folder_id"]
    client.delete("/v1/users/ada")
    assert late(store, folders=[{"id": folder, "name": "Ada's", "created_at": BEFORE}]) == [REFUSED]
    assert late(store, folders=[{"id": folder, "name": "Bob's", "created_at": AFTER}]) == [("filled", None)]


def test_without_erased_users_nothing_is_rejected(machines: list[Machine]) -> None:
    store = machines[0].inner.inner
    assert late(store, sessions=[{"id": SESSION, "user_id": "ada", "created_at": BEFORE}]) == [CREATED]


@pytest.mark.parametrize(
    ("claim", "left"), [({}, "erased"), ({"claim": "token:x"}, "stays"), ({"claim": "user:ada"}, "stays")]
)
def test_only_the_service_assigns_sessions_of_others(machines: list[Machine], claim: dict[str, str], left: str) -> None:
    # somebody in a browser knew the session's id and the user's name before the store went away
    client, store = machines[0].client, machines[0].inner.inner
    turn = {"session_id": SESSION, "id": TURN, "prompt": "the service's own", "created_at": BEFORE}
    store.write(Batch(PROJECT, sessions=[{"id": SESSION, "created_at": BEFORE}], interactions=[turn]))
    client.delete("/v1/users/ada")
    stated = [{"id": SESSION, "user_id": "ada", "created_at": BEFORE, **claim}]
    assert late(store, sessions=stated) == [REFUSED]
    found = ask(store, ops.SESSION, PROJECT, {"session_id": SESSION})
    assert found is not None
    assert ("stays" if found["erased_at"] is None else "erased") == left


@pytest.mark.parametrize(("claim", "left"), [({}, "erased"), ({"claim": "token:x"}, "stays")])
def test_a_spooled_claim_assigns_no_session_of_others(
    machines: list[Machine], claim: dict[str, str], left: str
) -> None:
    here = machines[0]
    turn = {"session_id": SESSION, "id": TURN, "prompt": "the service's own", "created_at": BEFORE}
    here.spool.write(Batch(PROJECT, sessions=[{"id": SESSION, "created_at": BEFORE}], interactions=[turn]))
    here.inner.refuses = lambda _: StoreUnavailable("not now")
    here.spool.write(Batch(PROJECT, sessions=[{"id": SESSION, "user_id": "ada", "created_at": BEFORE, **claim}]))
    eventually(lambda: here.spool.breaker.is_closed, "the probe succeeds")
    report = here.client.delete("/v1/users/ada").get_json()
    assert (report["spooled"], report["sessions"]) == (1, 1 if left == "erased" else 0)
    found = ask(here.inner.inner, ops.SESSION, PROJECT, {"session_id": SESSION})
    assert found is not None
    assert ("stays" if found["erased_at"] is None else "erased") == left


@pytest.mark.parametrize("kind", ["feedback", "participants"])
def test_a_user_erased_while_a_batch_waits_for_a_lock_stays_erased(backend: Backend, kind: str) -> None:
    store = backend.open()
    row: dict[str, Any] = {"session_id": SESSION, "participant": "ada", "created_at": BEFORE}
    if kind == "feedback":
        row = {"session_id": SESSION, "interaction_id": TURN, "author": "ada", "name": "rating", "value": 1}
        row |= {"created_at": BEFORE, "given_at": BEFORE}
    stub = {"id": SESSION, "implicit": True, "created_at": BEFORE}
    store.write(Batch(PROJECT, [stub]))
    late = Batch(PROJECT, [stub], late=True, **{kind: [row]})  # type: ignore[arg-type]
    failed: list[Exception] = []

    def deliver() -> None:
        try:
            store.write(late)
        except StoreBusy as error:
            failed.append(error)

    with psycopg.connect(backend.database) as other, psycopg.connect(backend.database, autocommit=True) as third:
        other.execute("select from turnlog.ai_sessions for update")
        thread = threading.Thread(target=deliver)
        thread.start()
        while third.execute("select count(*) from pg_locks where not granted").fetchone() == (0,):
            assert thread.is_alive()
        while ask(store, ops.ERASE_USER, PROJECT, {"user_id": "ada", "begin": True})["left"]:
            pass
        other.commit()
        thread.join()
    assert len(failed) == 1
    assert [each.reason for each in getattr(store.write(late), kind)] == ["erased"]
