"""The search index is built after the writes: what it lacks is still found, and erased texts leave it."""

import threading
import time
import uuid
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversation.api import snippets
from logging_store import errors
from logging_store import operations as ops
from logging_store.postgres.function_store import FunctionStore
from logging_store.records import identity
from logging_store.upkeep import indexing
from logging_store.upkeep.indexing import Indexing, index
from tests.api.test_problems import FailingStore
from tests.api.test_search_api import ABSENT, SAID, keys, search
from tests.conftest import PROJECT, Backend
from tests.doctor.operator import Operator
from tests.http_calls import create, in_path, log
from tests.store_calls import ask

pytestmark = pytest.mark.own_database

INDEXED, WAITING = "select count(*) from turnlog.ai_search", "select count(*) from turnlog.ai_search_queue"
ONE_DATABASE = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)


@pytest.fixture(autouse=True)
def _asking_the_index_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ops.SEARCH.bounds, "first", 0)


@pytest.fixture
def database_store(backend: Backend) -> FunctionStore:
    store = backend.open()
    assert isinstance(store, FunctionStore)
    return store


@pytest.fixture
def indexed(database_store: FunctionStore) -> Any:
    """Return what indexes all that waits."""

    def index_all() -> None:
        while index(database_store, 60_000)["indexed"]:
            pass

    return index_all


def count(backend: Backend, query: str) -> int:
    with psycopg.connect(backend.database, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def test_a_search_finds_the_same_before_and_after_indexing(client: FlaskClient, backend: Backend, indexed: Any) -> None:
    for n, (name, (text, _)) in enumerate(SAID.items()):
        log(client, session_id=f"s{n}", interaction_id=name, prompt="Well", response=text)
    terms = [term for _, of_text in SAID.values() for term in of_text] + ABSENT
    before = [keys(search(client, q=term)) for term in terms]
    assert (count(backend, WAITING), count(backend, INDEXED)) == (len(SAID), 0)
    indexed()
    assert count(backend, WAITING) == 0
    assert count(backend, INDEXED) >= 1
    assert [keys(search(client, q=term)) for term in terms] == before


def test_words_of_a_history_are_found_before_and_after_indexing(client: FlaskClient, indexed: Any) -> None:
    said = [
        {"role": "user", "content": "Marmalade?"},
        {"role": "assistant", "content": "No."},
        {"role": "user", "content": "Toast?"},
    ]
    log(client, session_id="s", interaction_id="t", prompt=said, response="Certainly.")
    for _ in range(2):
        for term in ("marmalade", "toast", "certainly"):
            assert keys(search(client, q=term)) == ["t"]
        indexed()


def test_the_index_limits_the_scan_to_candidates(client: FlaskClient, indexed: Any) -> None:
    for n in range(20):
        log(client, session_id=f"s{n}", interaction_id=str(n), prompt=f"number {n:03}")
    assert (keys(found := search(client, q="007")), found["searched"]) == (["7"], 20)
    indexed()
    assert (keys(found := search(client, q="007")), found["searched"]) == (["7"], 1)
    log(client, session_id="new", interaction_id="new", prompt="not indexed: 007")
    assert (keys(found := search(client, q="007")), found["searched"]) == (["new", "7"], 2)
    assert search(client, q="absent")["searched"] == 1


def test_the_newest_are_scanned_before_the_index_is_used(
    client: FlaskClient, indexed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(12):
        at = f"2026-11-01T00:00:{n:02}Z"
        log(client, session_id=f"s{n}", interaction_id=str(n), prompt="rare" if n in {0, 9} else "often", started_at=at)
    indexed()
    monkeypatch.setitem(ops.SEARCH.bounds, "first", 4)
    assert (keys(found := search(client, q="rare")), found["searched"]) == (["9", "0"], 5)
    assert (keys(found := search(client, q="rare", limit=1)), found["searched"]) == (["9"], 3)
    assert keys(rest := search(client, q="rare", limit=1, cursor=found["next"])) == ["0"]
    assert (rest["next"], rest["complete"]) == (None, True)
    often = search(client, q="often", limit=3)
    assert (keys(often), often["searched"]) == (["11", "10", "8"], 4)
    assert keys(search(client, q="often", limit=100, cursor=often["next"])) == ["7", "6", "5", "4", "3", "2", "1"]
    monkeypatch.setitem(ops.SEARCH.bounds, "first", 100)
    assert (keys(found := search(client, q="rare")), found["searched"]) == (["9", "0"], 12)


@ONE_DATABASE
@given(
    texts=st.lists(st.text(alphabet="abAB äß日本語ก😀%_\\ء", max_size=8), min_size=1, max_size=6),
    term=st.text(alphabet="abAB äß日本語ก😀%_\\ء", min_size=1, max_size=3),
)
def test_a_search_finds_what_python_finds(client: FlaskClient, indexed: Any, texts: list[str], term: str) -> None:
    if not snippets.terms_of(f'"{term}"') or term.isspace():
        return
    session = f"s{time.monotonic_ns()}"
    for n, text in enumerate(texts):
        log(client, session_id=session, interaction_id=str(n), response=text)
    expected = {str(n) for n, text in enumerate(texts) if snippets.fold(term) in snippets.fold(text)}
    assert set(keys(search(client, q=f'"{term}"', session=session))) == expected
    indexed()
    assert {
        hit["interaction_key"]
        for hit in search(client, q=f'"{term}"', limit=100)["interactions"]
        if hit["session_key"] == session
    } == expected


def test_a_text_filled_in_later_is_found(client: FlaskClient, indexed: Any) -> None:
    log(client, session_id="s", interaction_id="1", prompt="question")
    indexed()
    log(client, session_id="s", interaction_id="1", response="answer")
    assert keys(search(client, q="answer")) == ["1"]
    indexed()
    assert keys(search(client, q="answer")) == keys(search(client, q="question")) == ["1"]


def test_an_id_that_several_sessions_have_is_indexed_for_each(
    client: FlaskClient, backend: Backend, database_store: FunctionStore
) -> None:
    one = str(uuid.uuid4())
    for session in ("s", "t"):
        log(client, session_id=session, interaction_id=one, prompt="needle", response="straw " * 5_000)
    assert index(database_store, 0) == {"indexed": 1, "left": True}
    assert index(database_store, 0) == {"indexed": 1, "left": False}
    assert len(search(client, q="needle")["interactions"]) == 2


def test_a_text_too_long_to_be_indexed_is_found(client: FlaskClient, indexed: Any) -> None:
    log(client, session_id="s", interaction_id="1", prompt="x", response="straw " * 100_000 + "needle")
    log(client, session_id="t", interaction_id="2", prompt="x", response="straw " * 2_000 + "needle")
    indexed()
    assert sorted(keys(search(client, q="needle"))) == ["1", "2"]


def test_erased_texts_leave_the_index(client: FlaskClient, backend: Backend, indexed: Any) -> None:
    create(client, session_id="a", user_id="ada")
    create(client, session_id="b", user_id="bob")
    for session, participant in (("a", "ada"), ("b", "ada"), ("b", "bob"), ("c", "eve")):
        log(client, session_id=session, prompt=f"of {participant}", participant=participant)
    client.put(f"{in_path('b')}/participants/ada", json={})
    indexed()
    assert count(backend, INDEXED) == 3
    client.delete("/v1/users/ada")
    assert count(backend, INDEXED) == 1
    indexed()
    assert count(backend, INDEXED) == 2
    client.delete(in_path("b"))
    client.delete(in_path("c"))
    assert (count(backend, INDEXED), count(backend, WAITING)) == (0, 0)


def test_an_erasure_waits_for_the_indexing(client: FlaskClient, backend: Backend) -> None:
    log(client, session_id="s", prompt="secret")
    with psycopg.connect(backend.database) as other:
        other.execute("select turnlog.index_pending('{\"ms\": 1000}')")
        erasing = threading.Thread(target=client.delete, args=[in_path("s")])
        erasing.start()
        while count(backend, "select count(*) from pg_locks where not granted") == 0:
            assert erasing.is_alive()
            time.sleep(0.01)
        other.commit()
    erasing.join()
    assert (count(backend, INDEXED), count(backend, WAITING)) == (0, 0)


def test_a_concurrent_write_is_not_lost_to_the_index(client: FlaskClient, backend: Backend, indexed: Any) -> None:
    log(client, session_id="s", interaction_id="1", prompt="question")
    with psycopg.connect(backend.database) as writing:
        writing.execute(
            "select turnlog.write(jsonb_build_object('project', project, 'interactions', jsonb_build_array("
            "jsonb_build_object('session_id', session_id, 'id', id, 'response', 'answer'))))"
            " from turnlog.ai_interactions"
        )
        indexed()
        writing.commit()
    assert count(backend, WAITING) == 1
    indexed()
    assert keys(search(client, q="answer")) == ["1"]


def test_the_thread_indexes_step_by_step_and_waits_while_the_store_is_away(
    client: FlaskClient, backend: Backend, database_store: FunctionStore
) -> None:
    log(client, session_id="s", prompt="hello")
    assert Indexing(database_store).step() > 0
    assert (count(backend, INDEXED), count(backend, WAITING)) == (1, 0)

    away = FailingStore(errors.StoreUnavailable("away"))
    assert Indexing(away).step() > Indexing(database_store).step()


def test_the_thread_starts_and_stops(client: FlaskClient, backend: Backend, database_store: FunctionStore) -> None:
    log(client, session_id="s", prompt="hello")
    thread = Indexing(database_store)
    thread.start()
    give_up = time.monotonic() + 30
    while count(backend, WAITING):
        assert time.monotonic() < give_up
        time.sleep(0.01)
    thread.stop()
    assert not any(thread.name == "search-index" for thread in threading.enumerate())


def test_the_command_indexes_everything_pending(client: FlaskClient, operator: Operator, backend: Backend) -> None:
    for n in range(3):
        log(client, session_id=f"s{n}", prompt="hello")
    result = operator.run("index")
    assert (result.exit_code, result.stdout) == (0, "Indexed 3 interactions.\n")
    assert count(backend, WAITING) == 0


def test_a_reindex_covers_rows_written_past_the_service(
    client: FlaskClient, operator: Operator, backend: Backend, indexed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(8):
        log(client, session_id=f"s{n // 3}", interaction_id=f"{n}", prompt="hay")
    indexed()
    operator.execute("update turnlog.ai_interactions set prompt = '\"needle\"' where key >= '3'")
    operator.execute("insert into turnlog.ai_search values ('default', gen_random_uuid(), gen_random_uuid(), '{1}')")
    assert keys(search(client, q="needle")) == []
    monkeypatch.setattr(indexing, "_QUEUE_BATCH", 2)
    result = operator.run("index", "--all")
    assert (result.exit_code, result.stdout) == (0, "Queued 8 interactions.\nIndexed 8 interactions.\n")
    assert sorted(keys(search(client, q="needle"))) == ["3", "4", "5", "6", "7"]
    assert (count(backend, INDEXED), count(backend, WAITING)) == (3, 0)


@pytest.mark.parametrize("indexes", [False, True])
def test_records_written_during_a_reindex_are_found(
    client: FlaskClient, backend: Backend, database_store: FunctionStore, indexed: Any, *, indexes: bool
) -> None:
    log(client, session_id="s", interaction_id="1", prompt="hay")
    with psycopg.connect(backend.database) as other:
        other.execute("select from turnlog.ai_search_queue for update")  # somebody is indexing: it is waited for
        queueing = threading.Thread(target=lambda: list(indexing.queue_all(database_store)))
        queueing.start()
        while count(backend, "select count(*) from pg_locks where not granted") == 0:
            assert queueing.is_alive()
            time.sleep(0.01)
        for session in ("s", "t"):
            log(client, session_id=session, interaction_id="2", prompt="needle")
        if indexes:
            index(database_store, 1000)
        other.commit()
    queueing.join()
    for _ in range(2):
        assert len(search(client, q="needle")["interactions"]) == 2
        indexed()


def test_a_session_queued_in_part_is_scanned_whole(
    client: FlaskClient, backend: Backend, database_store: FunctionStore, indexed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(5):
        log(client, session_id="s", interaction_id=str(n), prompt=f"needle {n}")
    indexed()
    monkeypatch.setattr(indexing, "_QUEUE_BATCH", 2)
    for queued in indexing.queue_all(database_store):
        indexed()
        assert len(search(client, q="needle")["interactions"]) == 5, queued
    assert count(backend, INDEXED + " where grams = '{-1}'") == 0


def test_remaining_turns_of_a_session_are_found(client: FlaskClient, operator: Operator, indexed: Any) -> None:
    for n in range(3):
        log(client, session_id="s", interaction_id=str(n), prompt=f"needle {n}")
    indexed()
    operator.execute("delete from turnlog.ai_interactions where key = '1'")
    assert keys(search(client, q="needle")) == ["2", "0"]
    indexed()
    assert keys(search(client, q="needle")) == ["2", "0"]
    assert operator.execute(WAITING) == [(0,)]


def test_remaining_turns_of_a_long_session_are_found(client: FlaskClient, operator: Operator, indexed: Any) -> None:
    log(client, session_id="s", interaction_id="1", prompt="needle")
    operator.execute(
        "insert into turnlog.ai_interactions (project, session_id, id, prompt, created_at)"
        " select project, id, gen_random_uuid(), '\"hay\"', now() from turnlog.ai_sessions, generate_series(1, 1010)"
    )
    indexed()
    operator.execute(
        "delete from turnlog.ai_interactions where ctid = any (array("
        "select ctid from turnlog.ai_interactions where key is null limit 5))"
    )
    assert operator.execute(WAITING) == [(0,)]
    assert keys(search(client, q="needle")) == ["1"]


def test_replaced_texts_leave_the_index(client: FlaskClient, operator: Operator, indexed: Any) -> None:
    log(client, session_id="s", interaction_id="1", prompt="ada@example.com", response="hello")
    log(client, session_id="s", interaction_id="2", prompt="needle")
    indexed()
    operator.execute("update turnlog.ai_interactions set prompt = '\"[mail]\"' where key = '1'")
    operator.run("index", "--all")
    ((stays,),) = operator.execute(
        "select count(*) from turnlog.ai_search where grams && turnlog.grams('ada@example.com')"
    )
    assert stays == 0
    assert keys(search(client, q="[mail]")) == keys(search(client, q="hello")) == ["1"]
    assert keys(search(client, q="needle")) == ["2"]


def test_a_write_without_texts_is_not_indexed_again(client: FlaskClient, operator: Operator, indexed: Any) -> None:
    log(client, session_id="s", interaction_id="1", prompt="hello")
    indexed()
    for _ in range(5):
        operator.execute("update turnlog.ai_interactions set latency_ms = coalesce(latency_ms, 0) + 1")
        assert operator.execute(WAITING) == [(0,)]
    assert operator.execute(INDEXED) == [(1,)]


def test_a_step_checks_the_clock_after_each_text(client: FlaskClient, database_store: FunctionStore) -> None:
    for n in range(5):
        log(client, session_id="s", interaction_id=str(n), prompt="straw " * 2000 + f"needle {n}")
    assert index(database_store, 0) == {"indexed": 1, "left": True}
    assert index(database_store, 60_000) == {"indexed": 4, "left": False}
    assert keys(search(client, q="needle 3")) == ["3"]


def test_a_step_takes_few_bytes_at_once(client: FlaskClient, operator: Operator, indexed: Any) -> None:
    for n in range(30):
        log(client, session_id="s", interaction_id=str(n), prompt="straw " * 800 + str(n))
    indexed()
    # 4.8 KB each: six are more than 25 KB, and what is taken on at once is a row
    assert operator.execute(INDEXED) == [(5,)]


def test_a_busy_store_is_logged(database_store: FunctionStore, caplog: pytest.LogCaptureFixture) -> None:
    busy = FailingStore(errors.StoreBusy("busy"))
    with caplog.at_level("WARNING"):
        assert Indexing(busy).step() > Indexing(database_store).step()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_while_a_session_is_erased_its_words_are_not_found(
    client: FlaskClient, operator: Operator, database_store: FunctionStore, indexed: Any
) -> None:
    for n in range(4):
        log(client, session_id="s", interaction_id=str(n), prompt="secret")
    log(client, session_id="t", interaction_id="kept", prompt="secret")
    request = {"project": PROJECT, "session_id": identity.session(PROJECT, "s").id, "most": 2}
    assert ask(database_store, ops.ERASE, None, request)["left"]
    assert operator.execute("select count(*) from turnlog.ai_interactions") == [(3,)]
    for _ in range(2):
        assert keys(search(client, q="secret")) == keys(search(client)) == ["kept"]
        indexed()
    assert operator.execute(INDEXED) == [(1,)]
