"""One round of each kind of measurement, and the checks that make its figure count."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from bench import bodies, load, servers
from bench.load import Posting
from bench.servers import Contender, Database, Machine

PROJECT = "default"
#: Bodies made for each second of a round; no service here posts that many, so each is posted once.
SINGLES_A_SECOND, BATCHES_A_SECOND = 6000, 200
_WARM_UP_S = 2


class InvalidRound(Exception):  # noqa: N818 - named after the outcome
    """A measurement met errors, or what is stored isn't what was acknowledged."""


@dataclass(frozen=True, slots=True)
class Round:
    """One contender in one round. Rates are a second; CPU is in microseconds an interaction, latency in ms a call.

    `by_worker`: how many requests each worker got. `spooled` of the answers promised to write later (None: not
    counted). `late_ms` is the 99th percentile of how much too late the generator was with a request.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    service_us: float
    postgres_us: float
    generator_us: float
    api_us: float = 0.0
    by_worker: tuple[int, ...] = ()
    spooled: int | None = 0
    late_ms: float = 0.0

    @property
    def cpu_us(self) -> float:
        return self.service_us + self.postgres_us


def through_http(machine: Machine, contender: Contender, posting: Posting) -> Round:
    """Post to a service. Raises `InvalidRound`."""
    database = contender.database
    before = database.rows() if database else 0
    machine.checkpoint()
    measured = contender.process, machine.postgres, contender.api
    worker_of: dict[str, int] = {}
    used = [servers.cpu_s(process) for process in measured]
    done = load.post(contender.url + posting.path, posting, lambda: worker_of.update(_worker_of(contender)))
    service_s, postgres_s, api_s = (servers.cpu_s(process) - us for process, us in zip(measured, used, strict=True))
    if done.errors or not done.answers:
        raise InvalidRound(f"{contender.name}: {done.errors} errors beside {done.answers} answers")
    logged = done.answers * posting.size
    if database:
        stored = database.rows(at_least=before + logged) - before
        _require_kept(contender.name, stored, logged, under_way=posting.clients * posting.size)
    by_worker = [0] * servers.WORKERS
    # wrk doesn't count for each connection: there each is one
    for port, answers in (done.by_port or dict.fromkeys(worker_of, 1)).items():
        if port in worker_of:
            by_worker[worker_of[port]] += answers
    return Round(
        logged / done.seconds, done.p50_ms, done.p99_ms, service_s / logged * 1e6, postgres_s / logged * 1e6,
        done.cpu_s / logged * 1e6, api_s / logged * 1e6, tuple(by_worker), done.spooled, done.late_ms,
    )  # fmt: skip


def through_copy(machine: Machine, copied: Database, batches: Sequence[bytes], *, size: int) -> Round:
    """COPY each batch in a transaction of its own, over one connection; the rows were spelled out beforehand."""
    machine.checkpoint()
    before = copied.rows()
    latencies = []
    statement = f"copy {servers.TABLE} ({bodies.COPY_COLUMNS}) from stdin".encode()
    with psycopg.connect(copied.conninfo, autocommit=True) as connection:
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
    rows = len(batches) * size
    _require_kept("COPY", copied.rows() - before, rows, under_way=0)
    latencies.sort()
    return Round(
        rows / seconds, latencies[len(latencies) // 2] * 1e3, latencies[len(latencies) * 99 // 100] * 1e3,
        0.0, used / rows * 1e6, own / rows * 1e6,
    )  # fmt: skip


def warm_up(machine: Machine, contenders: Sequence[Contender], file: Path, clients: int, shared: Sequence[str]) -> None:
    """Open the sessions one by one, then every connection of the pools."""
    for contender in contenders:
        for posting in (Posting(file, 1, 1), Posting(file, clients, _WARM_UP_S)):
            bodies.write_singles(file, count=int(SINGLES_A_SECOND * posting.seconds), shared=shared)
            through_http(machine, contender, posting)


def insert_sessions(database: Database, sessions: Sequence[str]) -> None:
    """Open the sessions that copied interactions refer to."""
    with psycopg.connect(database.conninfo) as connection:
        connection.cursor().executemany(
            "insert into turnlog.ai_sessions (project, id, created_at) values (%s, %s::uuid, now())",
            [[PROJECT, session] for session in sessions],
        )


def _worker_of(contender: Contender) -> dict[str, int]:
    """Return which worker serves the client at which port, of the connections open now."""
    found = {}
    own_port = int(contender.url.split("/")[2].rpartition(":")[2])
    for number, worker in enumerate(contender.workers()):
        with contextlib.suppress(psutil.NoSuchProcess):
            for connection in worker.net_connections("tcp"):
                if connection.laddr and connection.raddr and connection.laddr.port == own_port:
                    found[str(connection.raddr.port)] = number
    return found


def _require_kept(name: str, stored: int, acknowledged: int, *, under_way: int) -> None:
    # requests in flight when the load ended may be stored without having been acknowledged
    if not acknowledged <= stored <= acknowledged + under_way:
        raise InvalidRound(f"{name}: {acknowledged} acknowledged, {stored} stored")
