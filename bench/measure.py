"""One round of each kind of measurement, and the checks that make its figure count."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from bench import bodies, load, servers
from bench.servers import Contender, Database, Machine

PROJECT = "default"


class Unsound(Exception):  # noqa: N818 - states what is
    """A measurement met errors, or what is stored isn't what was acknowledged."""


@dataclass(frozen=True, slots=True)
class Round:
    """One contender in one round. Rates are a second; CPU is in microseconds an interaction, latency in ms a call."""

    rate: float
    p50_ms: float
    p99_ms: float
    service_us: float
    postgres_us: float
    generator_us: float

    @property
    def cpu_us(self) -> float:
        return self.service_us + self.postgres_us


def through_http(
    machine: Machine, contender: Contender, file: Path, *, clients: int, seconds: float, size: int = 1, path: str = ""
) -> Round:
    """Post the bodies of a file, each of `size` interactions, for so long. Raises `Unsound`.

    `path` goes on from the contender's own.
    """
    database = contender.database
    before = database.rows() if database else 0
    machine.checkpoint()
    service = psutil.Process(contender.service.pid)
    used = servers.cpu_s(service), servers.cpu_s(machine.postgres)
    done = load.post(contender.url + path, file, clients=clients, seconds=seconds)
    used = servers.cpu_s(service) - used[0], servers.cpu_s(machine.postgres) - used[1]
    if done.errors or not done.answers:
        raise Unsound(f"{contender.name}: {done.errors} errors beside {done.answers} answers")
    if database:
        _require_kept(contender.name, database.rows() - before, done.answers * size, under_way=clients * size)
    logged = done.answers * size
    return Round(
        logged / done.seconds, done.p50_ms, done.p99_ms,
        used[0] / logged * 1e6, used[1] / logged * 1e6, done.cpu_s / logged * 1e6,
    )  # fmt: skip


def through_copy(machine: Machine, batches: Sequence[bytes], *, size: int) -> Round:
    """COPY each batch in a transaction of its own, over one connection; the rows were spelled out beforehand."""
    machine.checkpoint()
    before = machine.copied.rows()
    latencies = []
    statement = f"copy {machine.copied.table} ({bodies.COPY_COLUMNS}) from stdin".encode()
    with psycopg.connect(machine.copied.conninfo, autocommit=True) as connection:
        used = servers.cpu_s(machine.postgres)
        own = time.process_time()
        begun = time.perf_counter()
        for batch in batches:
            sent = time.perf_counter()
            with connection.cursor().copy(statement) as copy:
                copy.write(batch)
            latencies.append(time.perf_counter() - sent)
        seconds = time.perf_counter() - begun
        own = time.process_time() - own
        used = servers.cpu_s(machine.postgres) - used
    copied = len(batches) * size
    _require_kept("COPY", machine.copied.rows() - before, copied, under_way=0)
    latencies.sort()
    return Round(
        copied / seconds, latencies[len(latencies) // 2] * 1e3, latencies[len(latencies) * 99 // 100] * 1e3,
        0.0, used / copied * 1e6, own / copied * 1e6,
    )  # fmt: skip


def insert_sessions(database: Database, sessions: Sequence[str]) -> None:
    """Open the sessions that copied interactions refer to."""
    with psycopg.connect(database.conninfo) as connection:
        connection.cursor().executemany(
            "insert into public.ai_sessions (project, id, created_at) values (%s, %s::uuid, now())",
            [[PROJECT, session] for session in sessions],
        )


def _require_kept(name: str, stored: int, acknowledged: int, *, under_way: int) -> None:
    # what was under way when the load ended may be stored, too, without anybody having been told
    if not acknowledged <= stored <= acknowledged + under_way:
        raise Unsound(f"{name}: {acknowledged} acknowledged, {stored} stored")
