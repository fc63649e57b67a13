"""How long lists and overviews take in a large project, and what the lists' indexes take from the rate of writes."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psutil
import psycopg
from psycopg.types.json import Jsonb

from bench import bodies, measure, servers
from bench.findings import Figure, Section, Setup, cpu, interleaved, rate, ratios
from bench.load import Posting
from bench.measure import PROJECT
from bench.servers import COUNTING, Database
from conversation.api.overview import query_of
from conversation.api.pricing import Prices
from conversation.api.spans import Span

_WITH, _WITHOUT = "with the lists' indexes", "without"
_INDEXES = (
    "ai_sessions_status_newest_idx",
    "ai_sessions_folder_newest_idx",
    "ai_sessions_implicit_newest_idx",
    "ai_interactions_arrived_idx",
    "ai_interactions_model_idx",
    "ai_interactions_failed_idx",
)
_PAGE = 50
_TURNS = 5  # of each session that is listed
_ROUNDS, _CALLS = 5, 10

# A year of sessions of five turns each; 200 of them go on at once, so that their turns lie between each other's.
_FILL = """
set session_replication_role = replica; -- sessions and folders exist: skip the foreign-key checks; nothing is queued
insert into turnlog.ai_sessions (project, id, key, user_id, title, folder_id, status, implicit, tags, metadata,
                                 earliest_turn_at, created_at)
select '{project}', md5('s' || n)::uuid, 'chat-' || n, case when n % 10 = 0 then 'bot' else 'user-' || n % 50000 end,
       'Conversation about topic ' || n % 1000, case when n % 50 = 1 then md5('folder')::uuid end,
       case when n % 5 = 0 then 'open' when n % 10007 = 1 then 'locked' else 'closed' end, n % 53 = 0,
       nullif(array_remove(array[case when n % 10 < 3 then 'common' end, case when n % 100 = 7 then 'hundredth' end,
                                 case when n % 20011 = 9 then 'rare' end], null), '{{}}'),
       jsonb_build_object('channel', case when n % 20011 = 11 then 'rare' when n % 100 = 8 then 'kiosk'
                                          when n % 10 < 7 then 'web' else 'app' end,
                          'release', n / 1000, 'ab', n % 2 = 0),
       now() - interval '365 days' + n * interval '365 days' / {sessions},
       now() - interval '365 days' + n * interval '365 days' / {sessions}
  from generate_series(0, {sessions} - 1) as n;
insert into turnlog.ai_interactions
       (project, session_id, id, prompt, response, model, error, completed_at, latency_ms, turn, created_at)
select '{project}', md5('s' || i.session)::uuid, md5('i' || i.n)::uuid, to_jsonb(repeat('Where is my order? ', 10)),
       to_jsonb(repeat('It left us on Friday. ', 20)),
       case when i.session < {sessions} * 0.4 and i.n % 10 < 3 then 'retired' when i.n % 250007 = 3 then 'rare'
            when i.session % 100 = 9 then 'hundredth' when i.n % 3 = 0 then 'claude-sonnet-4-5' else 'gpt-4o-mini' end,
       case when i.session % 50 = 7 then 'rate limit' end, i.at, 800, i.turn, i.at
  from (select n, n / 1000 * 200 + n % 200 as session, n % 1000 / 200 as turn,
               now() - interval '365 days' + (n / 1000 * 200 + n % 200) * interval '365 days' / {sessions}
               + (n % 1000 / 200) * interval '70 seconds' as at
          from generate_series(0, {sessions} * 5 - 1) as n) as i;
insert into turnlog.ai_feedback (project, session_id, interaction_id, author, name, value, given_at, created_at)
select '{project}', md5('s' || n)::uuid, md5('f' || n)::uuid, '', 'rating', to_jsonb(n % 10 < 4), now(), now()
  from generate_series(0, {sessions} - 1) as n where n % 10 = 3 or n % 100 = 6 or n % 20011 = 15 and n > {sessions} / 2
"""
#: Queries of turnlog.sessions: first pages, or, if `deep`, pages half a year back.
_LISTS: dict[str, dict[str, Any]] = {
    "newest": {},
    "newest, deep": {"deep": True},
    "oldest": {"sort": "oldest"},
    "last active": {"sort": "activity"},
    "last active, deep": {"sort": "activity", "deep": True},
    "of a user with a tenth": {"user_id": "bot"},
    "with a tag of a hundredth": {"tag": "hundredth"},
    "with a rare tag": {"tag": "rare"},
    "locked": {"status": "locked"},
    "implicit": {"implicit": True},
    "with a common model": {"model": "gpt-4o-mini"},
    "with a model of a hundredth": {"model": "hundredth"},
    "with a rare model": {"model": "rare"},
    "with a model of long ago": {"model": "retired"},
    "with failures": {"has_errors": True},
    "named so, which none is": {"name": "zebra"},
    "without a tag": {"untagged": True},
    "with common metadata": {"metadata": [[{"channel": "web"}]]},
    "with metadata of a hundredth": {"metadata": [[{"channel": "kiosk"}]]},
    "with rare metadata": {"metadata": [[{"channel": "rare"}]]},
    "with metadata that none has": {"metadata": [[{"channel": "fax"}]]},
    "rated up": {"rating": True},
    "rated down, a hundredth": {"rating": False},
    "unrated": {"unrated": True},
    "rated": {"unrated": False},
    "of 5 interactions or more": {"min_turns": 5},
    "of 6 interactions, which none has": {"min_turns": 6},
    "of 4 interactions at most, which none has": {"max_turns": 4},
}
_OVERVIEWS = {"of a day": 1, "of a week": 7, "of a month": 30, "of a quarter": 90}


def run(setup: Setup) -> Section:
    options, machine = setup.options, setup.machine
    shared = bodies.sessions(options.shared_sessions)
    indexed = machine.database()
    plain = machine.database(COUNTING, "".join(f"drop index turnlog.{index};" for index in _INDEXES))
    contenders = {_WITH: machine.turnlog(indexed, _WITH), _WITHOUT: machine.turnlog(plain, _WITHOUT)}
    setup.say("warming up")
    measure.warm_up(machine, list(contenders.values()), setup.file, options.clients, shared)
    batched = setup.file.with_name("batches.jsonl")
    postings = {
        "single": Posting(setup.file, options.clients, options.seconds),
        "batches": Posting(batched, options.batch_clients, options.seconds, options.batch, "/batch"),
    }

    def prepare() -> None:
        bodies.write_singles(setup.file, count=int(measure.SINGLES_A_SECOND * options.seconds), shared=shared)
        bodies.write_batches(batched, count=int(measure.BATCHES_A_SECOND * options.seconds), size=options.batch)

    rounds = interleaved(
        setup,
        prepare,
        {
            f"{kind}, {name}": partial(measure.through_http, machine, contender, posting)
            for kind, posting in postings.items()
            for name, contender in contenders.items()
        },
    )
    figures = []
    for kind, work in (("single", "single writes"), ("batches", f"batches of {options.batch}")):
        ours, theirs = (rounds[f"{kind}, {name}"] for name in contenders)
        figures += [
            Figure(f"{work}, rate", "no lists' indexes", ratios(ours, theirs, rate), 0.9, 0.95),
            Figure(f"{work}, CPU", "no lists' indexes", ratios(ours, theirs, cpu)),
        ]
    sessions = options.rows // _TURNS
    setup.say(f"filling {sessions:,} sessions")
    full = machine.database()
    _fill(full, sessions)
    for name, query in _LISTS.items():
        setup.say(name)
        taken = _milliseconds(full, "sessions", _list(query))
        figures.append(Figure(f"list: {name}", f"{sessions:,}", taken, 100, 50, at_most=True, unit=" ms"))
    for name, days in _OVERVIEWS.items():
        setup.say(f"overview {name}")
        taken = _milliseconds(full, "overview", _overview(days))
        figures.append(Figure(f"overview: {name}", f"{sessions:,}", taken, 1000, 500, at_most=True, unit=" ms"))
    return Section(
        "lists",
        f"Lists, {_PAGE} a page, and overviews, of {sessions:,} sessions of five interactions: CPU of the database; and"
        " writes with and without the six indexes that only lists need.",
        rounds,
        figures,
    )


def _fill(database: Database, sessions: int) -> None:
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        for statement in _FILL.format(project=PROJECT, sessions=sessions).split(";\n"):
            connection.execute(statement.encode())
        connection.execute("vacuum (freeze, analyze)")


def _list(query: dict[str, Any]) -> dict[str, Any]:
    request = {"limit": _PAGE, **query}
    if request.pop("deep", False):
        half_a_year_ago = datetime.now(UTC) - timedelta(days=180)
        request["after"] = {"at": half_a_year_ago.isoformat(), "session_id": "80000000-0000-4000-8000-000000000000"}
    return request


def _overview(days: int) -> Mapping[str, Any]:
    now = datetime.now(UTC)
    return query_of(Span(now - timedelta(days=days), now, "hour" if days == 1 else "day"), Prices())


def _milliseconds(database: Database, function: str, query: Mapping[str, Any]) -> Sequence[float]:
    """Return how many milliseconds of CPU a call took in the database, in a few rounds.

    They are those that it takes on a machine with nothing else to do; here, others take turns with it.
    """
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        backend = psutil.Process(connection.info.backend_pid)
        taken = []
        for _ in range(_ROUNDS + 1):
            used = servers.cpu_s(backend)
            for _ in range(_CALLS):
                connection.execute(f"select turnlog.{function}(%s)".encode(), [Jsonb({"project": PROJECT, **query})])
            taken.append((servers.cpu_s(backend) - used) / _CALLS * 1e3)
    return taken[1:]  # the first found nothing in memory
