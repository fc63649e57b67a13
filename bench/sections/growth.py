"""Single writes into a database that holds millions of interactions, against the same into an empty one."""

import time
from functools import partial
from hashlib import md5
from pathlib import Path
from uuid import UUID

import psycopg

from bench import bodies, measure
from bench.findings import Figure, Section, Setup, cpu, interleaved, rate, ratios
from bench.load import Posting
from bench.measure import PROJECT
from bench.servers import COUNTING, TABLE, Database

_FULL, _EMPTY = "Turnlog, full", "Turnlog, empty"
_WRITTEN_SESSIONS = 5_000

# Turns of a session come one after the other; the sessions' ids, and with them the places in the index, at random.
_SESSIONS = """
insert into turnlog.ai_sessions (project, id, created_at)
select '{project}', md5(n::text)::uuid, now() - interval '1 year' + n * interval '1 second'
  from generate_series(0, {sessions} - 1) as n
"""
_SPELL_OUT = """
copy (select '{project}', md5((n / {per_session})::text)::uuid, md5('interaction ' || n)::uuid,
             to_jsonb(s.texts[1 + n % {texts}] || ' ' || s.texts[1 + n / 7 % {texts}]),
             to_jsonb(s.texts[1 + n / 49 % {texts}] || ' ' || s.texts[1 + n / 343 % {texts}]),
             'gpt-4o-mini', now() - interval '1 year' + n * interval '0.1 second'
        from generate_series(0, {rows} - 1) as n, (select array{sentences}) as s (texts)) to '{file}' (format binary)
"""
_COUNT_WRITTEN = f"{COUNTING} where project = '{PROJECT}' and session_id in (select id from written)"  # noqa: S608


def run(setup: Setup) -> Section:
    options, machine = setup.options, setup.machine
    sessions = max(1, options.rows // bodies.PER_SESSION)
    written = [str(UUID(bytes=md5(str(n).encode()).digest())) for n in _spread(sessions)]  # noqa: S324 - no secret
    full, empty = (machine.database(_COUNT_WRITTEN, "create table written (id uuid primary key)") for _ in range(2))
    setup.say(f"copying {options.rows:,} rows")
    begun = time.monotonic()
    size_gb = _fill(full, sessions, options.rows)
    filled_s = time.monotonic() - begun
    measure.insert_sessions(empty, written)
    for database in (full, empty):
        with psycopg.connect(database.conninfo, autocommit=True) as connection:
            connection.cursor().executemany("insert into written values (%s)", [[session] for session in written])
            connection.execute("vacuum (freeze, analyze)")  # so that autovacuum need not during the rounds
            there = connection.execute("select count(*) from written join turnlog.ai_sessions using (id)").fetchone()
            if there != (len(written),):
                raise measure.InvalidRound(f"of the {len(written)} sessions to write into, {there} are there")
    contenders = machine.turnlog(full, _FULL), machine.turnlog(empty, _EMPTY)
    setup.say("warming up")
    measure.warm_up(machine, contenders, setup.file, options.clients, written)
    posting = Posting(setup.file, options.clients, options.seconds)
    count = int(measure.SINGLES_A_SECOND * options.seconds)
    rounds = interleaved(
        setup,
        lambda: bodies.write_singles(setup.file, count=count, shared=written),
        {each.name: partial(measure.through_http, machine, each, posting) for each in contenders},
    )
    return Section(
        "growth",
        f"Growth: {options.rows:,} interactions in {sessions:,} sessions, against none in {len(written):,}; both log "
        f"into the same {len(written):,} sessions, which lie all over the index.",
        rounds,
        [
            Figure(
                f"rate with {options.rows:,} rows", "empty", ratios(rounds[_FULL], rounds[_EMPTY], rate), 0.85, 0.95
            ),
            Figure(f"CPU with {options.rows:,} rows", "empty", ratios(rounds[_FULL], rounds[_EMPTY], cpu)),
        ],
        [f"Filled by COPY in {filled_s:.0f} s to {size_gb:.1f} GB."],
    )


def _spread(sessions: int) -> range:
    return range(0, sessions, max(1, sessions // _WRITTEN_SESSIONS))


def _fill(database: Database, sessions: int, rows: int) -> float:
    """Fill a database and return its size in GB. PostgreSQL makes up the rows, as Python would take far longer."""
    quoted = ["'" + sentence.replace("'", "''") + "'" for sentence in bodies.SENTENCES]
    with psycopg.connect(database.conninfo, autocommit=True) as connection:

        def value(statement: str) -> str:
            return str((connection.execute(statement.encode()).fetchone() or [None])[0])

        file = Path(value("show data_directory")) / "growth.copy"
        names = {"project": PROJECT, "sessions": sessions, "rows": rows, "file": file, "texts": len(quoted)}
        connection.execute(_SESSIONS.format(**names).encode())
        connection.execute(
            _SPELL_OUT.format(
                **names, per_session=bodies.PER_SESSION, sentences=f"[{', '.join(quoted)}]"
            ).encode()
        )  # fmt: skip
        connection.execute("set session_replication_role = replica")  # the sessions exist: skip the foreign-key checks
        connection.execute(f"copy {TABLE} ({bodies.COPY_COLUMNS}) from '{file}' (format binary)".encode())
        file.unlink()
        return int(value("select pg_database_size(current_database())")) / 1e9
