"""`--from-database` imports another application's tables once, and doesn't change them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from logging_store.repository import ConversationRepository
from tests.archive import table_api
from tests.archive.conftest import Flask, counted, flask_of, stored_rows
from tests.archive.table_api import TableApi
from tests.conftest import Backend, open_backend
from tests.databases import TestServer
from tests.leaks import PASSWORD
from tests.turns import corpus

_ROOT = Path(__file__).parents[2]
SESSION = "a0000000-0000-4000-8000-{:012d}"
INTERACTION = "b0000000-0000-4000-8000-{:012d}"

# the tables of the chat backend that began it all
SEED = """
create table public.ai_sessions (
    id uuid primary key, user_id text, title text, metadata jsonb, mood text,
    created_at timestamptz default '2026-11-21T06:30:00Z');
create table public.ai_interactions (
    id uuid, session_id uuid references public.ai_sessions, user_input text, ai_response text,
    tokens_used integer, prompt_tokens integer, model text, status text, latency_ms numeric, error text, tags text[],
    user_id text, "isGood" boolean, created_at timestamp default '2026-11-21T06:30:00');
create table public.private (secret text);
insert into public.private values ('nobody''s business');
"""


@dataclass
class Theirs:
    """A source: its database, what the command is asked with, and how it is asked."""

    server: TestServer
    name: str
    flask: Flask
    rejects: Path

    @property
    def url(self) -> str:
        return self.server.conninfo(self.name)

    def execute(self, statements: str, *values: Any) -> list[Any]:
        with self.server.connect(self.name) as connection:
            done = connection.execute(statements.encode(), values or None)
            return done.fetchall() if done.description else []

    def take(self, *options: str | Path, url: str | None = None) -> Result:
        arguments = ("import", "--from-database", url or self.url, "--rejects", self.rejects, *options)
        return self.flask(*arguments)

    def pair(self, *options: str | Path, url: str | None = None) -> Result:
        tables = ("--sessions", "public.ai_sessions", "--interactions", "public.ai_interactions")
        return self.take(*tables, *options, url=url)

    def state(self) -> list[Any]:
        """Return all that the source holds, and what was ever written to it."""
        return self.execute(
            "select (select jsonb_agg(s order by s.*) from public.ai_sessions as s),"
            " (select jsonb_agg(i order by i.*) from public.ai_interactions as i),"
            " (select array_agg(oid order by oid) from pg_class), pg_current_xact_id_if_assigned()"
        )


@pytest.fixture
def backend(request: pytest.FixtureRequest, postgres_server: TestServer) -> Iterator[Backend]:
    """Yield where the rows go: a database, since it makes no difference to how they are read."""
    with open_backend(getattr(request, "param", "postgres"), postgres_server) as backend:
        yield backend


@pytest.fixture
def theirs(postgres_server: TestServer, flask: Flask, tmp_path: Path) -> Iterator[Theirs]:
    with postgres_server.database(empty=True) as name:
        source = Theirs(postgres_server, name, flask, tmp_path / "rejects")
        source.execute(SEED)
        yield source


def fill(theirs: Theirs, sessions: int, interactions: int) -> None:
    theirs.execute(
        "insert into public.ai_sessions (id, user_id, title, metadata, mood)"
        " select ('a0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'user ' || n, 'Chat ' || n,"
        " jsonb_build_object('n', n), 'calm' from generate_series(1, %s) as n",
        sessions,
    )
    theirs.execute(
        "insert into public.ai_interactions (id, session_id, user_input, ai_response, tokens_used)"
        " select ('b0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid,"
        " ('a0000000-0000-4000-8000-' || lpad((n %% %s + 1)::text, 12, '0'))::uuid, 'Frage ' || n || ' 🙂',"
        " 'Antwort ' || n || ' 語', n from generate_series(1, %s) as n",
        sessions,
        interactions,
    )


def turns(repository: ConversationRepository, session: str) -> list[dict[str, Any]]:
    return [{**row} for row in repository.transcript(session, {"limit": 100})["interactions"]]


@pytest.mark.parametrize("backend", ["postgres", "supabase"], indirect=True)
def test_a_pair_of_tables_comes_in_once_and_stays_as_it_is(
    theirs: Theirs, backend: Backend, repository: ConversationRepository
) -> None:
    fill(theirs, 20, 1200)
    before = theirs.state()
    first = theirs.pair()
    assert (first.exit_code, counted(first)) == (
        0, {"sessions": [20, 0, 0, 0, 0], "interactions": [1200, 0, 0, 0, 0]},
    ), first.output  # fmt: skip
    second = theirs.pair()
    assert (second.exit_code, counted(second)) == (
        0, {"sessions": [0, 0, 20, 0, 0], "interactions": [0, 0, 1200, 0, 0]},
    ), second.output  # fmt: skip
    assert stored_rows(backend) == (20, 1200)
    assert theirs.state() == before
    session = repository.session(SESSION.format(3))
    told = (session["user_id"], session["title"], session["metadata"], session["started_at"])
    assert told == ("user 3", "Chat 3", {"n": 3, "mood": "calm"}, "2026-11-21T06:30:00+00:00")
    turn = next(
        each for each in turns(repository, SESSION.format(3)) if each["interaction_id"] == INTERACTION.format(2)
    )
    told = (turn["prompt"], turn["response"], turn["metadata"], turn["started_at"])
    assert told == ("Frage 2 🙂", "Antwort 2 語", {"tokens_used": 2}, "2026-11-21T06:30:00+00:00")


def test_a_dry_run_prints_the_mapping_and_stores_nothing(theirs: Theirs, backend: Backend) -> None:
    fill(theirs, 2, 3)
    theirs.execute('update public.ai_interactions set id = null, "isGood" = true where tokens_used = 1')
    result = theirs.pair("--dry-run", "--map", "prompt_tokens=-", "--map", "mood=title")
    assert result.exit_code == 0, result.output
    assert "public.ai_sessions: 2 rows (one session per row)" in result.stdout
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    for expected in (
        "id uuid → session_id",
        "mood text → title",
        "title text → metadata.title (unknown column; 2 values)",
        "metadata jsonb → metadata",
        "user_input text → prompt",
        "tokens_used integer → metadata.tokens_used (a sum; Turnlog keeps input and output tokens; 3 values)",
        "prompt_tokens integer → ignored (0 values)",
        "isGood boolean → metadata.isGood (unknown column; 1 value)",
        "created_at timestamp without time zone → started_at (without a time zone: read as UTC)",
        "1 row of public.ai_interactions without id: the id is derived from the content of the row.",
        "Nothing was stored: --dry-run.",
    ):
        assert expected in lines
    assert stored_rows(backend) == (0, 0)


def test_missing_parents_are_made_and_null_ids_derive_from_the_row(
    theirs: Theirs, backend: Backend, repository: ConversationRepository, tmp_path: Path
) -> None:
    theirs.execute(
        "alter table public.ai_interactions drop constraint ai_interactions_session_id_fkey;"
        "insert into public.ai_sessions (id, user_id) values ('a0000000-0000-4000-8000-000000000001', 'ada');"
        "insert into public.ai_interactions (id, session_id, user_input, user_id) values"
        " ('b0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000001', 'in it', 'ada'),"
        " ('b0000000-0000-4000-8000-000000000002', 'a0000000-0000-4000-8000-000000000002', 'orphan', 'bob'),"
        " ('b0000000-0000-4000-8000-000000000003', 'a0000000-0000-4000-8000-000000000002', 'beside it', 'eve'),"
        " (null, 'a0000000-0000-4000-8000-000000000001', 'unnamed', null),"
        " (null, 'a0000000-0000-4000-8000-000000000001', 'unnamed', null),"
        " ('b0000000-0000-4000-8000-000000000004', null, 'in none', null),"
        " (null, null, null, null)"
    )
    report = tmp_path / "report"
    plan = theirs.pair("--dry-run").stdout
    assert "2 rows of public.ai_interactions name sessions that are missing from public.ai_sessions (1 in all)." in plan
    for sessions, interactions in (([2, 0, 0, 0, 0], [7, 0, 0, 0, 0]), ([0, 0, 2, 0, 0], [0, 0, 7, 0, 0])):
        result = theirs.pair("--report", report)
        assert result.exit_code == 0, result.output
        assert (counted(result)["sessions"], counted(result)["interactions"]) == (sessions, interactions)
        assert "2 session ids repaired" in result.stdout
        assert [json.loads(line)["reason"] for line in report.read_text().splitlines()] == ["null", "null"]
    assert stored_rows(backend) == (4, 7)
    assert sorted(each["prompt"] for each in turns(repository, SESSION.format(1))) == ["in it", "unnamed", "unnamed"]
    orphaned = repository.session(SESSION.format(2))
    assert orphaned["user_id"] == "bob"
    told = {each["prompt"]: each["participant"] for each in turns(repository, SESSION.format(2))}
    assert told == {"orphan": None, "beside it": "eve"}


def test_numbers_and_texts_are_ids_and_times_may_be_epochs(theirs: Theirs, repository: ConversationRepository) -> None:
    theirs.execute(
        'create table public."Chats" (id bigint generated by default as identity, name text, begun_at bigint);'
        "create table public.turns (id serial primary key, chat integer, question text, answer text, ts float8);"
        """insert into public."Chats" values (7, 'seven', 1795242600), (8, 'eight', 1795242600000);"""
        "insert into public.turns (chat, question, answer, ts) values"
        " (7, 'a', 'b', 1795242601.25), (8, 'c', null, null), (9, 'd', 'e', 1e30)"
    )
    options = ("--sessions", 'public."Chats"', "--interactions", "public.turns")
    result = theirs.take(*options)
    assert result.exit_code == 0, result.output
    assert counted(result) == {"sessions": [2, 0, 0, 0, 0], "interactions": [3, 0, 0, 0, 0]}
    assert "since their field can't hold them: 1 values" in result.stdout
    assert [repository.session(key)["started_at"] for key in ("7", "8")] == ["2026-11-21T06:30:00+00:00"] * 2
    ((turn,), (other,)) = (turns(repository, key) for key in ("7", "9"))
    assert (turn["key"], turn["prompt"], turn["started_at"]) == ("1", "a", "2026-11-21T06:30:01.25+00:00")
    assert (other["started_at"], other["metadata"]) == (None, {"ts": 1e30})
    assert counted(theirs.take(*options))["interactions"] == [0, 0, 3, 0, 0]


def test_values_that_do_not_fit_go_to_metadata(theirs: Theirs, repository: ConversationRepository) -> None:
    theirs.execute(
        "insert into public.ai_sessions (id, user_id, metadata, mood) values"
        " ('a0000000-0000-4000-8000-000000000001', '  ', '{\"mood\": \"theirs\"}', 'calm');"
        "insert into public.ai_interactions"
        " (id, session_id, user_input, prompt_tokens, model, status, latency_ms, tags, created_at) values"
        " ('b0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000001', 'x', -1, repeat('m', 300),"
        "  'success', 12.5, '{a,null}', 'infinity')"
    )
    result = theirs.pair()
    assert result.exit_code == 0, result.output
    assert "kept in metadata, since their field can't hold them: 5 values" in result.stdout
    session = repository.session(SESSION.format(1))
    assert (session["user_id"], session["metadata"]) == (
        None, {"user_id": "  ", "mood": "theirs", "ai_sessions.mood": "calm"},
    )  # fmt: skip
    (turn,) = turns(repository, SESSION.format(1))
    assert (turn["status"], turn["latency_ms"], turn["model"]) == ("completed", 12.5, None)
    assert turn["metadata"] == {
        "prompt_tokens": -1, "model": "m" * 300, "status": "success", "tags": ["a", None], "created_at": "infinity",
    }  # fmt: skip


def test_interactions_alone_make_their_sessions(
    theirs: Theirs, backend: Backend, repository: ConversationRepository
) -> None:
    fill(theirs, 3, 30)
    theirs.execute("update public.ai_interactions set user_id = 'ada' where session_id::text like '%1'")
    result = theirs.take("--interactions", "ai_interactions", "--zone", "Europe/Berlin")
    assert result.exit_code == 0, result.output
    assert stored_rows(backend) == (3, 30)
    told = [repository.session(SESSION.format(n)) for n in (1, 2)]
    assert [(each["user_id"], each["implicit"]) for each in told] == [("ada", False), (None, True)]
    assert turns(repository, SESSION.format(1))[0]["started_at"] == "2026-11-21T05:30:00+00:00"


MESSAGES = """
create table public.messages (id bigint primary key, conversation_id text, role text, content text, model text,
    tokens integer, cost numeric, user_id text, created_at timestamptz);
insert into public.messages values
    (1, 'c1', 'human', 'Hi', null, 1, null, 'ada', '2026-11-21T06:30:00Z'),
    (4, 'c1', 'user', 'And?', null, null, null, 'ada', '2026-11-21T06:30:03Z'),
    (2, 'c2', 'assistant', 'Welcome', 'm-2', null, null, null, '2026-11-21T06:30:01Z'),
    (3, 'c1', 'assistant', 'Ho', 'm-1', 9, 0.25, null, '2026-11-21T06:30:02Z'),
    (5, null, 'user', 'lost', null, null, null, null, null);
"""


def test_a_message_a_row_is_paired_into_interactions(theirs: Theirs, repository: ConversationRepository) -> None:
    theirs.execute(MESSAGES)
    for interactions in ([4, 0, 0, 0, 0], [0, 0, 4, 0, 0]):
        result = theirs.take("--interactions", "public.messages")
        assert (result.exit_code, counted(result)["interactions"]) == (0, interactions), result.output
    assert "one message per row" in result.stdout
    first, second = turns(repository, "c1")
    assert (first["turn"], first["prompt"], first["response"]) == (1, "Hi", "Ho")
    assert (first["model"], first["cost_usd"], first["completed_at"]) == ("m-1", 0.25, "2026-11-21T06:30:02+00:00")
    assert (first["key"], second["key"]) == ("1", "4")
    assert first["metadata"] == {
        "turnlog.response_id": "3",
        "prompt": {"speaker": "human", "tokens": 1},
        "response": {"tokens": 9},
    }
    assert (second["prompt"], second["response"]) == ("And?", None)
    assert repository.session("c1")["user_id"] == "ada"
    assert [each["response"] for each in turns(repository, "c2")] == ["Welcome"]
    assert [each["prompt"] for each in turns(repository, "messages-5")] == ["lost"]


def test_dialogues_come_out_the_same_from_a_table(theirs: Theirs, repository: ConversationRepository) -> None:
    theirs.execute(
        "create table public.messages (id bigserial primary key, chat_id text, role text, content text,"
        " created_at timestamptz)"
    )
    plain = [name for name, dialogue in corpus.DIALOGUES.items() if not corpus.has_tools(dialogue)]
    for name in plain:
        for n, said in enumerate(corpus.DIALOGUES[name]):
            at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=n)
            values = ", ".join(literal(value) for value in (name, said.role, said.text, at.isoformat()))
            theirs.execute(f"insert into public.messages (chat_id, role, content, created_at) values ({values})")  # noqa: S608
    result = theirs.take("--interactions", "public.messages")
    assert result.exit_code == 0, result.output
    for name in plain:
        found = repository.transcript(name, {"limit": 99})["interactions"]
        assert [(without_times(each["prompt"]), each["response"]) for each in found] == corpus.expected(
            corpus.DIALOGUES[name]
        )


def without_times(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    return [{name: value for name, value in item.items() if name not in {"id", "said_at"}} for item in content]


def literal(text: str | None) -> str:
    return "null" if text is None else "E'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


@contextmanager
def importing(theirs: Theirs, backend: Backend, stored: int) -> Iterator[subprocess.Popen[bytes]]:
    """Yield an import that has stored so many interactions at least."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "app", "import", "--from-database", theirs.url,
         "--sessions", "public.ai_sessions", "--interactions", "public.ai_interactions", "--rejects", theirs.rejects],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=_ROOT, env=kept | backend.environment,
    )  # fmt: skip
    try:
        give_up = time.monotonic() + 90
        while stored_rows(backend)[1] < stored:
            assert time.monotonic() < give_up, "nothing is stored"
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_killed_import_goes_on_when_it_is_run_again(theirs: Theirs, backend: Backend) -> None:
    fill(theirs, 50, 6000)
    with importing(theirs, backend, 500) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = stored_rows(backend)[1]
    assert before < 6000
    result = theirs.pair()
    assert result.exit_code == 0, result.output
    created, _, duplicate, *refused = counted(result)["interactions"]
    assert (created + duplicate, refused) == (6000, [0, 0])
    assert duplicate >= before
    assert stored_rows(backend) == (50, 6000)


@pytest.mark.parametrize("ending", ["interrupted", "deserted"])
def test_an_import_that_ends_early_says_how_far_it_came(theirs: Theirs, backend: Backend, ending: str) -> None:
    fill(theirs, 50, 20_000)
    with importing(theirs, backend, 500) as process:
        if ending == "interrupted":
            process.send_signal(signal.SIGINT)
        else:
            theirs.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and application_name = 'turnlog import'"
            )
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    sessions, interactions = stored_rows(backend)
    assert interactions < 20_000
    why = "Interrupted" if ending == "interrupted" else "Can't read the source: "
    assert f"Error: {why}" in printed.decode()
    told = re.search(rf"Stored is up to interactions row (\d+) of {theirs.name} on ", printed.decode())
    assert told is not None
    # what was being written as it was interrupted may be stored as well
    assert int(told[1]) <= interactions
    if ending != "interrupted":
        assert int(told[1]) == interactions
        assert f"{sessions + interactions:,} records in" in printed.decode()
    assert "Traceback" not in printed.decode()


def test_it_reads_with_no_rights_but_to_its_tables(theirs: Theirs, backend: Backend) -> None:
    fill(theirs, 2, 5)
    role = f"reader_{os.getpid()}_{backend.name}"
    theirs.execute(f"create role {role} login; grant usage on schema public to {role}")
    url = theirs.server.conninfo(theirs.name, user=role)
    try:
        refused = theirs.pair(url=url)
        assert refused.exit_code == 1
        assert f"The role {role} may not read public.ai_interactions. Grant it: grant usage" in refused.stderr
        theirs.execute(f"grant select on public.ai_sessions, public.ai_interactions to {role}")
        result = theirs.pair(url=url)
        assert result.exit_code == 0, result.output
        theirs.execute("alter table public.ai_interactions enable row level security")
        assert "Row level security may hide rows" in theirs.pair("--dry-run", url=url).stdout
    finally:
        theirs.execute(f"drop owned by {role}; drop role {role}")


def test_the_sources_connection_can_write_nothing(theirs: Theirs) -> None:
    theirs.execute(
        "create function public.writes() returns text volatile language plpgsql as"
        " $$ begin insert into public.private values ('x'); return 'x'; end $$;"
        "create view public.trap as select id, session_id, writes() as prompt from public.ai_interactions"
    )
    fill(theirs, 1, 1)
    result = theirs.take("--interactions", "public.trap")
    assert result.exit_code == 1
    assert "cannot execute INSERT in a read-only transaction" in result.output
    assert theirs.execute("select count(*) from public.private") == [(1,)]


def test_source_and_destination_may_be_one_database(postgres_server: TestServer, tmp_path: Path) -> None:
    with postgres_server.database() as name:
        url = postgres_server.conninfo(name)
        source = Theirs(postgres_server, name, flask_of({"DATABASE_URL": url}), tmp_path / "rejects")
        source.execute(SEED)
        source.execute("insert into public.ai_sessions (id) values (gen_random_uuid())")
        source.execute("insert into public.ai_interactions (id, session_id, user_input)"
                       " select gen_random_uuid(), id, 'x' from public.ai_sessions")  # fmt: skip
        result = source.take("--sessions", "public.ai_sessions", "--interactions", "public.ai_interactions")
        assert (result.exit_code, counted(result)["interactions"]) == (0, [1, 0, 0, 0, 0]), result.output
        for ours in ("turnlog.ai_interactions", "turnlog.ai_sessions"):
            refused = source.take("--interactions", ours)
            assert (refused.exit_code, "is a table of Turnlog's own" in refused.output) == (1, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--interactions", "public.ai_interaction"],
            "no table public.ai_interaction. Did you mean public.ai",
        ),
        (["--interactions", "a.b.c"], "is not a table name"),
        (["--interactions", "private"], "can't tell which column names the session of an interaction"),
        (["--interactions", "ai_interactions", "--map", "x=prompt"], "there is no column x"),
        (["--interactions", "ai_interactions", "--zone", "Mars/Base"], "there is no such zone"),
        (["--sessions", "ai_sessions"], "Name the table with --interactions"),
        (["--interactions", "ai_sessions", "--sessions", "ai_sessions"], "are one table"),
        (["--interactions", "ai_interactions", "--format", "sharegpt"], "leave FILE, --format and --shift-to-now out"),
        (["--interactions", "ai_interactions", "--shift-to-now"], "leave FILE, --format and --shift-to-now out"),
    ],
)
def test_errors_are_clear(theirs: Theirs, options: list[str], message: str) -> None:
    result = theirs.take(*options)
    assert result.exit_code in {1, 2}
    assert message in result.output


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"postgresql://me:{PASSWORD}@127.0.0.1:1/db", "Can't read the source: connection failed"),
        (f"postgresql://me:{PASSWORD}@1@127.0.0.1:1/db", "percent-encoded"),
        (f"postgresql://me:{PASSWORD}@[::1/db", "must be a connection string of PostgreSQL"),
        (f"https://me:{PASSWORD}@ref.supabase.co", "must be the project's URL|needs the project's secret key"),
        ("https://ref.supabase.co", "set it as TURNLOG_IMPORT_KEY"),
    ],
)
def test_a_password_is_never_printed(theirs: Theirs, url: str, message: str) -> None:
    result = theirs.pair(url=url)
    assert result.exit_code == 1
    assert any(each in result.output for each in message.split("|")), result.output
    assert PASSWORD not in result.output


@pytest.fixture
def api(theirs: Theirs, backend: Backend) -> Iterator[TableApi]:
    with table_api.serving(theirs.url) as api:
        backend.environment["TURNLOG_IMPORT_KEY"] = table_api.KEY
        yield api


@pytest.mark.parametrize("describes", [True, False])
def test_rows_come_through_supabases_api(
    theirs: Theirs, backend: Backend, api: TableApi, repository: ConversationRepository, *, describes: bool
) -> None:
    fill(theirs, 20, 2500)
    theirs.execute("alter table public.ai_interactions add primary key (id)")
    api.describes, api.most_rows = describes, 700
    for counts in ([2500, 0, 0, 0, 0], [0, 0, 2500, 0, 0]):
        result = theirs.pair(url=api.url)
        assert (result.exit_code, counted(result)["interactions"]) == (0, counts), result.output
        assert table_api.KEY not in result.output
    assert stored_rows(backend) == (20, 2500)
    turn = next(
        each for each in turns(repository, SESSION.format(3)) if each["interaction_id"] == INTERACTION.format(2)
    )
    told = (turn["prompt"], turn["response"], turn["metadata"], turn["started_at"])
    assert told == ("Frage 2 🙂", "Antwort 2 語", {"tokens_used": 2}, "2026-11-21T06:30:00+00:00")
    assert {each.split("?")[0] for each in api.asked} == {
        "/rest/v1/", "/rest/v1/ai_sessions", "/rest/v1/ai_interactions",
    }  # fmt: skip


def test_the_api_gives_tables_with_keys_of_several_columns(theirs: Theirs, api: TableApi, backend: Backend) -> None:
    theirs.execute(
        "create table public.log (session_id text, n integer, says text, primary key (session_id, n));"
        "insert into public.log select 's \"' || n / 40 || '\"', n % 40, 'x' from generate_series(0, 399) as n"
    )
    api.most_rows = 70
    result = theirs.take("--interactions", "log", "--map", "says=prompt", url=api.url)
    assert result.exit_code == 0, result.output
    assert stored_rows(backend) == (10, 400)


def test_errors_of_the_api_are_clear(theirs: Theirs, api: TableApi, backend: Backend) -> None:
    assert "The API has no table public.nothing. It has public.ai_in" in theirs.take(
        "--interactions", "nothing", url=api.url
    ).output  # fmt: skip
    assert "has no primary key" in theirs.pair(url=api.url).output
    backend.environment["TURNLOG_IMPORT_KEY"] = f"{PASSWORD}-wrong"
    refused = theirs.pair(url=api.url)
    assert "The API" in refused.output
    assert PASSWORD not in refused.output


def test_the_api_is_asked_again_after_a_pause(theirs: Theirs, api: TableApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conversation.archive.from_database.api_tables._PAUSES_S", (0.01, 0.01))
    fill(theirs, 2, 3)
    theirs.execute("alter table public.ai_interactions add primary key (id)")
    api.fail_next = 2
    assert theirs.pair("--dry-run", url=api.url).exit_code == 0
    api.fail_next = 10
    result = theirs.pair("--dry-run", url=api.url)
    assert (result.exit_code, "503" in result.output) == (1, True)
