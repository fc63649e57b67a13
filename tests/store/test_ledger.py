"""received = created + filled + … + in flight: at any moment, over all processes, even if one dies."""

import os
import random
import signal
import threading
import time
import uuid

import httpx
import pytest

from logging_store.batches import Receipt
from logging_store.metrics.ledger import OUTCOMES, Ledger, buckets
from logging_store.metrics.shared_memory import SharedCounters
from tests.databases import TestServer
from tests.service import launch


def balance(totals: dict[str, float]) -> float:
    return totals["received"] - totals["in_flight"] - sum(totals[outcome] for outcome in OUTCOMES)


def test_each_record_is_counted_by_its_outcome() -> None:
    ledger = Ledger()
    with ledger.receiving(3) as receipts:
        assert (ledger.totals()["received"], ledger.totals()["in_flight"]) == (3, 3)
        assert balance(ledger.totals()) == 0
        receipts += [Receipt(receipt="created"), Receipt(receipt="spooled"), Receipt(receipt="created")]
    ledger.reject(2)
    totals = ledger.totals()
    told = {name: totals[name] for name in ("received", "in_flight", "created", "spooled", "rejected", "failed")}
    assert told == {"received": 5, "in_flight": 0, "created": 2, "spooled": 1, "rejected": 2, "failed": 0}


def test_records_without_a_receipt_have_failed() -> None:
    ledger = Ledger()
    with pytest.raises(RuntimeError), ledger.receiving(2):
        raise RuntimeError
    assert (ledger.totals()["failed"], balance(ledger.totals())) == (2, 0)


def test_histograms_cumulate() -> None:
    ledger = Ledger()
    for records in (1, 2, 2, 3, 5000):
        ledger.written(records, 0.1)
    counted, total = buckets(ledger.totals(), "group_records")
    assert total == 5008
    assert counted[:3] == [("1.0", 1), ("2.0", 3), ("4.0", 4)]
    assert counted[-2:] == [("1024.0", 4), ("+Inf", 5)]


def count_for_ever(ledger: Ledger, slot: int) -> int:
    """Fork a process that counts until it is killed, wherever it is then; return its number."""
    child = os.fork()
    if child == 0:
        ledger.counters.join(slot)
        while True:
            with ledger.receiving(random.randrange(1, 5)) as receipts:
                receipts.append(Receipt(receipt="created"))
    return child


def test_no_count_is_lost_when_a_process_is_killed() -> None:
    processes, rounds = 4, 3
    ledger = Ledger(slots=processes + 1)
    looks = 0
    for _ in range(rounds):
        slots = [ledger.take_slot() for _ in range(processes)]
        children = [count_for_ever(ledger, slot) for slot in slots]
        try:
            give_up = time.monotonic() + 0.5
            while time.monotonic() < give_up:
                assert balance(ledger.totals()) == 0
                looks += 1
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        before = ledger.totals()
        for slot in slots:
            ledger.release_slot(slot)
        after = ledger.totals()
        assert balance(after) == 0, "wherever they were killed"
        assert after["created"] == before["created"], "what an ended process counted stays"
        assert after["received"] == before["received"]
    totals = ledger.totals()
    assert looks > 100
    assert totals["created"] > 1000
    assert totals["in_flight"] == 0, "nobody is left to answer for them"


def test_a_slot_left_during_a_change_blocks_no_reader() -> None:
    counters = SharedCounters(["a"], slots=2)
    counters._numbers[counters._base] += 1  # noqa: SLF001 - as an owner killed in the middle of a change leaves it
    counters.add(("a", 1))
    assert counters.totals() == {"a": 1}


def test_metrics_are_right_with_several_workers_of_which_one_is_killed(postgres_server: TestServer) -> None:
    told: list[dict[str, float]] = []
    acknowledged = threading.Semaphore(0)
    stop = threading.Event()

    def write(url: str) -> None:
        with httpx.Client(timeout=30) as client:
            while not stop.is_set():
                record = {"session_id": "s", "interaction_id": str(uuid.uuid4()), "prompt": "Hello"}
                try:
                    client.post(f"{url}/v1/interactions", json=record).raise_for_status()
                except httpx.TransportError:
                    continue  # of the worker that was killed: never acknowledged
                acknowledged.release()

    with postgres_server.database() as name, launch({"DATABASE_URL": postgres_server.conninfo(name)}, 2) as service:
        service.wait_until_ready()
        writers = [threading.Thread(target=write, args=(service.url,)) for _ in range(6)]
        for writer in writers:
            writer.start()
        try:
            for look in range(40):
                told.append(metrics(service.url))
                if look == 20:
                    service.workers()[0].kill()
        finally:
            stop.set()
            for writer in writers:
                writer.join()
        last = metrics(service.url)
    answered = 0
    while acknowledged.acquire(blocking=False):
        answered += 1

    for one in (*told, last):
        outcomes = sum(one[f'turnlog_records_total{{outcome="{outcome}"}}'] for outcome in OUTCOMES)
        assert one["turnlog_records_received_total"] == outcomes + one["turnlog_records_in_flight"]
    received = [one["turnlog_records_received_total"] for one in told]
    assert received == sorted(received), "a killed worker takes nothing away"
    assert last["turnlog_records_in_flight"] == 0
    created = last['turnlog_records_total{outcome="created"}']
    assert answered <= created <= answered + 6, "all that was acknowledged, and at most what was in flight besides"


def metrics(url: str) -> dict[str, float]:
    while True:
        try:
            lines = httpx.get(f"{url}/metrics", timeout=30).text.splitlines()
        except httpx.TransportError:
            continue  # it met the worker that was killed
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}
