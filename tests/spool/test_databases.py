"""Records are delivered to the database that they were acknowledged for, under whatever address it answers.

The databases of a test are copies of one template: the same log in several places. `another_log` has its own.
"""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app import create_app
from conversation.settings import Settings
from logging_store.batches import Batch, Receipt
from logging_store.errors import Invalid, OtherDatabase, StoreUnavailable
from logging_store.postgres import migrations
from logging_store.postgres.function_store import FunctionStore
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.spool import CircuitBreaker, DeadLetters, Limits, Spool, SpoolDirectory, others
from logging_store.spool_folders import SpoolFolders, is_same_log
from logging_store.store import Store
from tests.conftest import PROJECT, open_backend
from tests.databases import TestServer
from tests.doctor.operator import Operator
from tests.http_calls import KEYLESS
from tests.spool.conftest import delivered, eventually
from tests.spool.flaky_store import FlakyStore, batch_of

AWAY = StoreUnavailable("nobody answers")


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    """Close the services of a test before its databases go."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def another_log(postgres_server: TestServer, closing: ExitStack) -> Iterator[str]:
    """Yield a database that was migrated by itself."""
    with postgres_server.database(empty=True) as name:
        migrations.migrate(postgres_server.conninfo(name))
        yield postgres_server.conninfo(name)
        closing.close()


@pytest.fixture
def original(postgres_server: TestServer, closing: ExitStack) -> Iterator[str]:
    with postgres_server.database() as name:
        yield postgres_server.conninfo(name)
        closing.close()


@pytest.fixture
def copy(postgres_server: TestServer, closing: ExitStack) -> Iterator[str]:
    """Yield a database with the rows of `original`, as pg_dump and pg_restore make it."""
    with postgres_server.database() as name:
        yield postgres_server.conninfo(name)
        closing.close()


class Machine:
    """A DATA_DIR on which services come and go."""

    def __init__(self, root: Path, closing: ExitStack) -> None:
        self.root = root
        self.closing = closing

    def serve(self, database: str | FlakyStore, address: str = "a") -> Spool:
        """Start a service for the database that answers at an address."""
        store = FlakyStore(PostgresStore(database, deadline_s=5)) if isinstance(database, str) else database
        breaker = CircuitBreaker(shortest_s=0.01, longest_s=0.05)
        spool = Spool(store, self.root / address, Limits(min_free_bytes=0), breaker=breaker)
        self.closing.callback(spool.close)
        spool.start()
        return spool

    def stop_with(self, prompt: str, spool: Spool) -> None:
        """End a service that has one record left, acknowledged while its database was away."""
        identified(spool)
        acknowledge(prompt, spool)
        spool.close()

    def start_away(self, prompt: str, database: str, address: str = "a") -> Spool:
        """Return a service that was started without its database and has one record."""
        store = FlakyStore(PostgresStore(database, deadline_s=5))
        store.away = AWAY
        spool = self.serve(store, address)
        acknowledge(prompt, spool)
        return spool

    def waiting(self) -> int:
        """Return how many records wait on the disk, for whichever database."""
        return sum(SpoolDirectory(path, Limits()).depth().records for path in self.root.iterdir() if path.is_dir())


@pytest.fixture
def machine(tmp_path: Path, closing: ExitStack) -> Machine:
    return Machine(tmp_path / "spool", closing)


def identified(spool: Spool, database: str | None = None) -> None:
    known = {id_of(database)} if database else None
    eventually(lambda: spool.directory.database in (known or {spool.directory.database} - {None}), "it has answered")


def delivered_to(database: str, spool: Spool) -> None:
    identified(spool, database)
    delivered(spool)


def acknowledge(prompt: str, spool: Spool) -> None:
    flaky(spool).away = AWAY
    assert {receipt.receipt for receipt in spool.write(batch_of(prompt))} == {"spooled"}


def flaky(spool: Spool) -> FlakyStore:
    assert isinstance(spool.inner, FlakyStore)
    return spool.inner


def prompts(database: str) -> list[str]:
    with psycopg.connect(database) as connection:
        rows = connection.execute("select prompt #>> '{}' from turnlog.ai_interactions order by 1")
        return [prompt for (prompt,) in rows]


def id_of(database: str) -> str:
    with psycopg.connect(database) as connection:
        row = connection.execute("select turnlog.database_id()").fetchone()
    assert row is not None
    return str(row[0])


# Which database it is


def test_a_database_is_the_same_to_every_role_and_door(postgres_server: TestServer) -> None:
    with open_backend("supabase", postgres_server) as backend:
        by_supabase = backend.open().ping()["database_id"]
        assert by_supabase == id_of(backend.database)


def test_a_role_without_special_rights_reads_the_id(postgres_server: TestServer, original: str) -> None:
    with psycopg.connect(original, autocommit=True) as connection:
        connection.execute("set role service_role")
        row = connection.execute("select turnlog.database_id()").fetchone()
    assert row == (id_of(original),)


def test_where_the_servers_identifier_is_not_readable_the_database_has_an_id(original: str) -> None:
    with psycopg.connect(original, autocommit=True) as connection, connection.transaction(force_rollback=True):
        connection.execute("revoke execute on function pg_catalog.pg_control_system() from public")
        connection.execute("set local role service_role")
        row = connection.execute("select turnlog.database_id()").fetchone()
    assert row is not None
    assert is_same_log(row[0], id_of(original))


def test_a_copy_is_the_same_log_elsewhere_and_a_new_database_is_another(
    original: str, copy: str, another_log: str
) -> None:
    assert id_of(original) != id_of(copy)
    assert is_same_log(id_of(original), id_of(copy))
    assert not is_same_log(id_of(original), id_of(another_log))
    migrations.migrate(another_log, again=True)
    assert id_of(another_log) == id_of(another_log)


def test_a_table_made_before_the_id_gets_one_by_migrating_again(another_log: str) -> None:
    with psycopg.connect(another_log, autocommit=True) as connection:
        connection.execute("alter table turnlog.migrations drop column database_id")
    migrations.migrate(another_log, again=True)
    assert id_of(another_log) == id_of(another_log)


@pytest.mark.every_store
def test_a_batch_for_another_database_is_not_written(store: Store) -> None:
    database = store.ping()["database_id"]
    batch = batch_of("Hello")
    named = Batch(PROJECT, batch.sessions, batch.interactions, late=True, database="0123456789abcdef-01234567")
    with pytest.raises(OtherDatabase, match="acknowledged for another database"):
        store.write(named)
    to_this = Batch(PROJECT, batch.sessions, batch.interactions, late=True, database=database)
    assert {receipt.receipt for receipt in store.write(to_this)} == {"created"}


# What becomes of records


def test_records_reach_the_same_database_under_another_address(machine: Machine, original: str) -> None:
    machine.stop_with("before", machine.serve(original, "old-name"))
    machine.start_away("meanwhile", original, "pooler").close()
    delivered_to(original, machine.serve(original, "pooler"))
    eventually(lambda: prompts(original) == ["before", "meanwhile"], "delivered")
    assert machine.waiting() == 0


def test_a_service_started_without_its_database_delivers_to_the_first_that_answers(
    machine: Machine, original: str, another_log: str
) -> None:
    spool = machine.start_away("Hello", original)
    assert spool.directory.database is None
    flaky(spool).refuses = lambda _: StoreUnavailable("not yet")
    flaky(spool).away = None
    identified(spool)
    spool.close()
    other = machine.serve(another_log)
    eventually(lambda: other.backlog().others == 1, "told of")
    assert prompts(another_log) == []
    delivered_to(original, machine.serve(original))
    assert prompts(original) == ["Hello"]


def test_a_service_started_without_its_database_spools_for_the_one_that_it_knows(
    machine: Machine, original: str, another_log: str
) -> None:
    identified(first := machine.serve(original))
    first.close()
    spool = machine.start_away("Hello", original)
    assert spool.directory.database == id_of(original)
    spool.close()
    identified(other := machine.serve(another_log), another_log)
    assert other.backlog().others == 1
    assert prompts(another_log) == []


@pytest.mark.parametrize("address", ["a", "b"])
def test_another_database_gets_nothing_and_tells(
    machine: Machine, original: str, another_log: str, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    machine.stop_with("Hello", machine.serve(original))
    spool = machine.serve(another_log, address)
    eventually(lambda: "1 record in" in caplog.text, "told of in the log")
    assert spool.backlog().others == 1
    assert spool.backlog().records == 0
    acknowledge("of the other", spool)
    flaky(spool).away = None
    delivered(spool)
    assert prompts(another_log) == ["of the other"]
    spool.close()
    delivered_to(original, machine.serve(original))
    assert prompts(original) == ["Hello"]


def test_a_copy_beside_its_original_gets_nothing(machine: Machine, original: str, copy: str) -> None:
    machine.stop_with("Hello", machine.serve(original, "a"))
    identified(at_copy := machine.serve(copy, "b"), copy)
    assert at_copy.backlog().others == 1
    at_copy.close()
    assert prompts(copy) == []
    delivered_to(original, machine.serve(original, "a"))
    assert prompts(original) == ["Hello"]


def test_a_copy_in_its_originals_place_gets_all_of_it(machine: Machine, original: str, copy: str) -> None:
    """As after an upgrade of the server, or a restore: the log moved, and its address leads to where it is now."""
    spool = machine.serve(original)
    identified(spool)
    spool.dead_letters.add(batch_of("refused"), Receipt(receipt="conflict"), time.time())
    machine.stop_with("Hello", spool)
    delivered_to(copy, moved := machine.serve(copy))
    assert prompts(copy) == ["Hello"]
    assert [letter.batch.interactions[0]["prompt"] for letter in moved.dead_letters.list()] == ["refused"]
    moved.close()
    back = machine.serve(original)  # and back again
    identified(back, original)
    eventually(lambda: back.dead_letters.count() == 1, "its dead letter moved as well")
    assert back.backlog().others == 0


def test_two_services_with_one_folder_deliver_each_to_its_own_database(
    machine: Machine, original: str, copy: str, another_log: str
) -> None:
    databases = {"a": original, "b": copy, "c": another_log}
    spools = {address: machine.serve(database, address) for address, database in databases.items()}
    for address, spool in spools.items():
        identified(spool)
        acknowledge(f"for {address}", spool)
    assert {spool.backlog().others for spool in spools.values()} == {2}
    assert {spool.directory.depth().records for spool in spools.values()} == {1}
    for spool in spools.values():
        flaky(spool).away = None
    for spool in spools.values():
        delivered(spool)
    assert {address: prompts(database) for address, database in databases.items()} == {
        address: [f"for {address}"] for address in databases
    }


def test_a_database_replaced_while_the_service_runs_gets_only_what_comes_after(
    machine: Machine, original: str, another_log: str
) -> None:
    spool = machine.serve(original)
    identified(spool)
    acknowledge("for the first", spool)
    flaky(spool).inner.close()
    flaky(spool).inner = PostgresStore(another_log, deadline_s=5)
    flaky(spool).away = None
    eventually(lambda: spool.directory.database == id_of(another_log), "the probe has met the other")
    assert spool.backlog().others == 1
    acknowledge("for the second", spool)
    flaky(spool).away = None
    delivered(spool)
    assert prompts(another_log) == ["for the second"]
    spool.close()
    delivered_to(original, machine.serve(original))
    assert prompts(original) == ["for the first"]


def test_a_database_replaced_without_an_outage_gets_nothing_that_waits(
    machine: Machine, original: str, another_log: str
) -> None:
    """As behind a pooler: no call fails, and the next one reaches another database."""
    spool = machine.serve(original)
    identified(spool)
    first, flaky(spool).inner = flaky(spool).inner, PostgresStore(another_log, deadline_s=5)
    first.close()
    spool.enqueue(batch_of("for the first"))
    eventually(lambda: spool.directory.database == id_of(another_log), "the delivery has met the other")
    assert spool.breaker.is_closed
    assert (spool.backlog().others, prompts(another_log)) == (1, [])


def test_a_check_of_readiness_notices_another_database(machine: Machine, original: str, another_log: str) -> None:
    spool = machine.serve(original)
    identified(spool)
    first, flaky(spool).inner = flaky(spool).inner, PostgresStore(another_log, deadline_s=5)
    first.close()
    spool.ping()
    acknowledge("for the second", spool)
    assert spool.directory.path.name == id_of(another_log)


def test_a_worker_spools_for_the_database_that_another_worker_has_met(
    machine: Machine, original: str, another_log: str
) -> None:
    spool = machine.serve(original)
    identified(spool)
    acknowledge("for the first", spool)
    SpoolFolders(machine.root, "a").identify(id_of(another_log))
    acknowledge("for the second", spool)
    assert [other.depth.records for other in others.find(SpoolFolders(machine.root, "a"))] == [1]
    assert spool.directory.path.name == id_of(another_log)


def test_workers_that_start_at_once_agree(machine: Machine, original: str, another_log: str) -> None:
    for n in range(4):
        machine.start_away(f"before {n}", original).close()
    began, spools = threading.Barrier(4), []

    def work(n: int) -> None:
        began.wait()
        spool = machine.serve(original)
        spools.append(spool)
        spool.enqueue(batch_of(f"after {n}"))

    threads = [threading.Thread(target=work, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: len(prompts(original)) == 8, "all are delivered")
    for spool in spools:
        delivered(spool)
        assert spool.directory.database == id_of(original)
        spool.close()
    identified(other := machine.serve(another_log), another_log)
    assert other.backlog().others == 0


def test_a_copied_folder_is_delivered_in_both_places(
    machine: Machine, original: str, copy: str, tmp_path: Path, closing: ExitStack
) -> None:
    """As where DATA_DIR was copied, the database with it, and is started elsewhere: each has its records."""
    machine.stop_with("Hello", machine.serve(original))
    elsewhere = Machine(tmp_path / "copied", closing)
    shutil.copytree(machine.root, elsewhere.root)
    delivered_to(copy, elsewhere.serve(copy))
    delivered_to(original, machine.serve(original))
    assert prompts(original) == prompts(copy) == ["Hello"]


def test_folders_of_earlier_versions_are_taken_over(machine: Machine, original: str) -> None:
    """They were named after the address."""
    folder = machine.root / "a"
    dead = SpoolDirectory(folder, Limits(min_free_bytes=0))
    dead.append(batch_of("Hello"))
    dead.close()
    DeadLetters(folder).add(batch_of("refused"), Receipt(receipt="conflict"), time.time())
    spool = machine.serve(original)
    delivered(spool)
    eventually(lambda: prompts(original) == ["Hello"], "delivered")
    assert [letter.batch.interactions[0]["prompt"] for letter in spool.dead_letters.list()] == ["refused"]
    assert DeadLetters(folder).count() == 0


def test_a_disk_that_refuses_the_names_stops_no_delivery(
    machine: Machine, original: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = machine.start_away("Hello", original)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("logging_store.spool_folders._write", fail)
    flaky(spool).away = None
    delivered(spool)
    assert prompts(original) == ["Hello"]


def test_others_names_what_waits_and_whose_it_is(machine: Machine, original: str, another_log: str) -> None:
    machine.stop_with("Hello", machine.serve(original, "a"))
    machine.start_away("Hi", original, "b").close()
    (machine.root / "b" / "spool-0.sqlite3").write_bytes(b"not a database, " * 100)
    identified(machine.serve(another_log, "c"))
    found = sorted(others.find(SpoolFolders(machine.root, "c")), key=lambda other: len(other.path.name))
    assert [str(other).replace(str(machine.root), "spool") for other in found] == [
        "1 record, 1 unreadable file in spool/b, acknowledged for a database that has not answered since",
        f"1 record in spool/{id_of(original)}, acknowledged for another database",
    ]


# What a person sees and does


@pytest.fixture
def stranded(machine: Machine, another_log: str, operator: Operator) -> str:
    """Return a folder of another database beside the operator's, with a record and a dead letter."""
    spools = Machine(Path(operator.environment["DATA_DIR"]) / "spool", machine.closing)
    spool = spools.serve(another_log, "elsewhere")
    identified(spool)
    spool.dead_letters.add(batch_of("refused"), Receipt(receipt="conflict"), time.time())
    spools.stop_with("Hello", spool)
    return spool.directory.path.name


@pytest.mark.own_database
@pytest.mark.every_store
def test_a_person_is_told_and_delivers(operator: Operator, stranded: str) -> None:
    assert f"of another database: 1 record, 1 dead letter in {operator.environment['DATA_DIR']}" in (
        status := operator.run("spool", "status").output
    )
    assert f"turnlog spool deliver {stranded}" in status
    [(check, finding)] = operator.find()
    assert (check, finding["fix"][0]) == ("other spools", f"turnlog spool deliver {stranded}")
    app = create_app(Settings.from_mapping(operator.environment | KEYLESS))
    client = app.test_client()
    assert client.get("/readyz").get_json()["of_other_databases"] == 2
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = {sample.name: sample.value for family in families for sample in family.samples}
    assert samples["turnlog_spool_other_records"] == 2
    assert "turnlog spool status" in client.get("/health").text
    app.extensions["conversation_repository"].store.close()

    done = operator.run("spool", "deliver", stranded)
    assert (done.exit_code, done.stdout) == (0, "Delivered 1 record: {'created': 1}\n"), done.output
    assert prompts(operator.database) == ["Hello"]
    assert "dead letters: 1" in (status := operator.run("spool", "status").output)
    assert "of another database" not in status
    assert operator.run("spool", "deliver", stranded).exit_code == 0, "there is nothing left to deliver"
    assert operator.run("spool", "deliver", "nowhere").exit_code == 1


@pytest.mark.own_database
def test_a_record_that_this_database_refuses_becomes_its_dead_letter(
    operator: Operator, stranded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise Invalid("no good")

    monkeypatch.setattr(FunctionStore, "write", refuse)
    assert operator.run("spool", "deliver", stranded).exit_code == 0
    assert "dead letters: 2" in operator.run("spool", "status").output


@pytest.mark.own_database
def test_a_person_discards_them(operator: Operator, stranded: str) -> None:
    refused = operator.run("spool", "discard", stranded)
    assert (refused.exit_code, "1 record, 1 dead letter" in refused.output) == (2, True)
    assert operator.run("spool", "discard", stranded, "--yes").exit_code == 0
    assert "of another database" not in operator.run("spool", "status").output
    assert operator.find() == []


@pytest.mark.own_database
def test_what_a_running_service_holds_is_neither_delivered_nor_discarded(
    operator: Operator, machine: Machine, another_log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(others, "_NO_PROGRESS_S", 0.2)
    spools = Machine(Path(operator.environment["DATA_DIR"]) / "spool", machine.closing)
    running = spools.serve(another_log, "elsewhere")
    identified(running)
    acknowledge("Hello", running)
    folder = running.directory.path.name
    assert operator.run("spool", "deliver", folder).exit_code == 1
    assert operator.run("spool", "discard", folder, "--yes").exit_code == 1
    assert prompts(operator.database) == []
    flaky(running).away = None
    delivered(running)
    assert prompts(another_log) == ["Hello"]
