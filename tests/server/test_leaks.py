"""What people said and what opens the log is planted on every path: no log line and no refusal repeats it.

Each test's end looks at what was logged and answered meanwhile (tests/leaks.py); so does every other test's.
"""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import httpx
import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from conversation import access
from conversation.api import problems
from conversation.keys import api_keys
from conversation.keys.key_registry import KeyRegistry
from conversation.settings import Settings
from logging_store.embedded.server import EmbeddedPostgres
from logging_store.errors import Misconfigured, StoreUnavailable
from logging_store.postgres.function_store import FunctionStore
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.postgres.sqlstate import classify
from logging_store.spool import CircuitBreaker, Limits, Spool
from tests.conftest import Backend
from tests.databases import server_folder
from tests.doctor.operator import Operator
from tests.http_calls import KEYLESS, create, log, problem
from tests.issuers import SigningPair
from tests.leaks import MARK, METADATA, PASSWORD, PROMPT, RESPONSE, TITLE, WATCH
from tests.service import launch
from tests.spool.conftest import eventually
from tests.spool.flaky_store import FlakyStore

SAID = {"prompt": PROMPT, "response": RESPONSE, "metadata": {"said": METADATA}}
SECRETS = [
    MARK.upper(),
    api_keys.make("secret"),
    api_keys.make("publishable"),
    "turnlog_st_.eJyrVsopTVWyUkrOKM3LVtJRys.c2lnbmF0dXJl",
    SigningPair.es256("one").sign(),
]
# each is a body that can't be taken, with what was said in it
REFUSED: list[dict[str, Any]] = [
    SAID | {"session_id": "s", "prompt": f"{PROMPT}\0"},
    SAID | {"session_id": "s", "prompt": [{"role": "user", "content": f"{PROMPT}\0"}]},
    SAID | {"session_id": "s", "prompt": {"text": PROMPT}},
    SAID | {"session_id": "s", "metadata": METADATA},
    SAID | {"session_id": "s", "metadata": {"said": f"{METADATA}\0"}},
    SAID | {"session_id": "s", "status": PROMPT},
    SAID | {"session_id": "s", "started_at": PROMPT},
    SAID | {"session_id": "s", "input_tokens": PROMPT},
    SAID | {"session_id": "s", "reply_to": [PROMPT]},
    SAID | {"session_id": "s", "tags": PROMPT},
    SAID | {"session_id": "s", "promt": PROMPT},
    SAID | {"session_id": {"said": PROMPT}},
    SAID | {"session_id": "s", "cost_usd": f"1e{PROMPT}"},
]
REFUSED_ELSEWHERE: list[tuple[str, dict[str, Any]]] = [
    ("/v1/sessions", {"session_id": "s", "title": f"{TITLE}\0"}),
    ("/v1/sessions", {"session_id": "s", "metadata": TITLE}),
    ("/v1/sessions", {"session_id": "s", "status": TITLE}),
    ("/v1/sessions", {"participants": [{"participant": "ada", "role": [TITLE], "state": TITLE}]}),
    ("/v1/folders", {"folder_id": "f", "name": f"{TITLE}\0", "plan": {"total_weeks": TITLE}}),
    ("/v1/folders/f/sessions", {"session_number": TITLE, "title": f"{TITLE}\0"}),
    ("/conversation/start", {"messages": [{"role": PROMPT, "content": 5}, {"content": PROMPT}]}),
    ("/conversation/s/message", {"role": "user", "content": f"{PROMPT}\0"}),
]
NO_JSON = [
    f'{{"prompt": "{PROMPT}"', f'{{"prompt": "{PROMPT}", "prompt": "{PROMPT}"}}', f'["{PROMPT}"]', f'"{PROMPT}"',
    f'{{"prompt": {PROMPT}}}', f'{{"prompt": "{PROMPT}\\ud800"}}', PROMPT,
]  # fmt: skip


@pytest.fixture
def client(store: FunctionStore) -> FlaskClient:
    """Return a client of a service that refuses what can't be stored, so that this is refused in every way."""
    return create_app(Settings.from_mapping(KEYLESS | {"TURNLOG_UNSTORABLE": "reject"}), store).test_client()


def assert_silent(answer: Any, status: int | None = None) -> None:
    assert status in {None, answer.status_code}
    assert MARK not in answer.get_data(as_text=True)


@pytest.mark.parametrize("secret", SECRETS, ids=["text", "secret", "publishable", "session token", "user's token"])
@pytest.mark.parametrize("where", ["message", "argument", "third party"])
def test_what_is_logged_is_watched(secret: str, where: str) -> None:
    match where:
        case "message":
            logging.getLogger("logging_store.spool").warning(f"kept {secret}")  # noqa: G004 - as a mistake would be
        case "argument":
            logging.getLogger("turnlog.batch").info("%s", secret)
        case _:
            logging.getLogger("psycopg.pool").error("connecting as %s", secret)
    assert len(WATCH.take()) == 1


def test_a_leak_fails_the_test_that_made_it(tmp_path: Path) -> None:
    leaky = tmp_path / "test_leaky.py"
    leaky.write_text(
        "import logging\n"
        "def test_silent(): pass\n"
        f"def test_leaky(): logging.getLogger('turnlog.batch').info('%s', {PROMPT!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider", str(leaky)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "2 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert f"{PROMPT} in what turnlog.batch logs" in done.stdout


def test_what_is_answered_printed_and_written_by_services_is_watched(tmp_path: Path) -> None:
    def fail() -> None:
        raise click.ClickException(PROMPT)

    app = create_app(Settings.from_mapping(KEYLESS | {"DATA_DIR": str(tmp_path)}))
    app.add_url_rule("/loose", view_func=access.open_to_all(lambda: problems.problem("bad-request", PROMPT)))
    app.cli.command("loose")(fail)
    app.test_client().get("/loose")
    app.test_cli_runner().invoke(args=["loose"])
    assert len(WATCH.take()) == 2
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "server.log").write_text(f"STATEMENT: {PROMPT}")
    WATCH.look_at_service(f"export TURNLOG_KEY={SECRETS[1]}\nkey {SECRETS[1]}", tmp_path)
    assert len(WATCH.take()) == 2


def test_an_error_that_quotes_what_was_said_is_logged_without_it(store: FunctionStore) -> None:
    failing = FlakyStore(store)
    client = create_app(Settings.from_mapping(KEYLESS), failing).test_client()
    failing.away = RuntimeError(PROMPT)
    answers = [log(client, **SAID, session_id="s"), create(client, title=TITLE), client.get("/v1/sessions/s")]
    for answer in answers:
        assert_silent(answer, 500)


@pytest.mark.parametrize("path", ["/v1/interactions", "/interaction/log", "/v1/interactions/batch"])
def test_a_refused_record_is_not_repeated(client: FlaskClient, path: str) -> None:
    answers = [client.post(path, json={"interactions": [body]} if path.endswith("batch") else body) for body in REFUSED]
    for answer, body in zip(answers, REFUSED, strict=True):
        assert answer.status_code in {207, 422}, body
        assert_silent(answer)


def test_a_refused_session_or_message_is_not_repeated(client: FlaskClient) -> None:
    for path, body in REFUSED_ELSEWHERE:
        # a conversation is started without its invalid messages
        assert_silent(client.post(path, json=body), 207 if path == "/conversation/start" else 422)


def test_what_is_no_json_is_not_repeated(client: FlaskClient) -> None:
    for data in NO_JSON:
        answer = client.post("/v1/interactions", data=data, content_type="application/json")
        assert answer.status_code in {400, 422}
        assert_silent(answer)


def test_a_contradiction_is_told_by_its_fields(client: FlaskClient) -> None:
    log(client, session_id="s", interaction_id="i", **SAID)
    other = dict.fromkeys(("prompt", "response"), f"{MARK}-other") | {"metadata": {"said": f"{MARK}-other"}}
    answer = log(client, session_id="s", interaction_id="i", **other)
    assert {field["path"] for field in problem(answer, 409)["fields"]} == {"$.prompt", "$.response", "$.metadata.said"}
    assert_silent(answer, 409)
    batch = {"interactions": [{"session_id": "s", "interaction_id": "i", **other}]}
    assert_silent(client.post("/v1/interactions/batch", json=batch), 207)
    create(client, session_id="t", title=TITLE)
    assert_silent(create(client, session_id="t", title=f"{MARK}-other"), 409)


def test_a_refused_query_is_not_repeated(client: FlaskClient) -> None:
    for name in ("limit", "cursor", "from", "status", "user", "case"):
        assert_silent(client.get(f"/v1/sessions?{name}={PROMPT}&q={PROMPT}"), 422)


@pytest.mark.parametrize(
    ("code", "message"),
    [("22P02", f'invalid input syntax for type uuid: "{PROMPT}"'), ("22003", f'value "{PROMPT} "x" " is out of range'),
     ("22008", f'date/time field value out of range: "{PROMPT}\n"')],
)  # fmt: skip
def test_what_the_database_says_of_a_value_is_told_without_it(store: FunctionStore, code: str, message: str) -> None:
    failing = FlakyStore(store)
    client = create_app(Settings.from_mapping(KEYLESS), failing).test_client()
    failing.away = classify(code, message)
    assert_silent(log(client, **SAID, session_id="s"), 422)
    assert_silent(client.get("/v1/sessions/s"), 422)
    assert message[:7] in str(failing.away)


def test_what_waits_and_what_was_refused_later_stays_out_of_the_log(store: FunctionStore, tmp_path: Path) -> None:
    failing = FlakyStore(store)
    breaker = CircuitBreaker(shortest_s=0.01, longest_s=0.05)
    with_spool = Spool(failing, tmp_path / "spool" / "embedded", Limits(min_free_bytes=0), breaker=breaker)
    client = create_app(Settings.from_mapping(KEYLESS | {"DATA_DIR": str(tmp_path)}), with_spool).test_client()
    try:
        failing.away = StoreUnavailable("away")
        assert log(client, session_id="s", **SAID).status_code == 202
        failing.away, failing.refuses = None, lambda _: classify("22P02", f'invalid: "{PROMPT}"')
        eventually(lambda: with_spool.backlog().dead_letters == 1, "refused")
        assert problem(log(client, session_id="t", **SAID), 422)
    finally:
        with_spool.close()


def test_keys_and_tokens_that_are_refused_are_not_repeated(store: FunctionStore, tmp_path: Path) -> None:
    made = KeyRegistry(store).create("default", "publishable", {"log"}, origins={"https://chat.example.com"})
    app = create_app(Settings.from_mapping({"DATA_DIR": str(tmp_path), "TURNLOG_API_KEY": f"{PASSWORD}-16"}), store)
    for text in (*SECRETS, f"{PASSWORD}-17", made.text[:-1]):
        for headers in ({"Authorization": f"Bearer {text}"}, {"Authorization": text}):
            assert_silent(app.test_client().post("/v1/interactions", json=SAID, headers=headers), 401)
    shown = {"Authorization": f"Bearer {made.text}", "Turnlog-Session-Token": SECRETS[3], "Turnlog-Session-Claim": MARK}
    assert_silent(app.test_client().post("/v1/interactions", json=SAID, headers=shown), 403)
    assert_silent(app.test_client().post("/v1/sessions", json={"title": TITLE}, headers=shown), 400)


def calls_of(app: Flask) -> list[Any]:
    client = app.test_client()
    return [log(client, session_id="s", **SAID), client.get("/v1/sessions/s"), client.get("/readyz")]


def test_the_databases_password_is_told_to_nobody_while_it_is_away(tmp_path: Path) -> None:
    store = PostgresStore(f"postgresql://ada:{PASSWORD}@127.0.0.1:1/turnlog", deadline_s=1)
    try:
        for answer in calls_of(create_app(Settings.from_mapping(KEYLESS | {"DATA_DIR": str(tmp_path)}), store)):
            assert_silent(answer, 503)
    finally:
        store.close()


def test_the_projects_key_is_told_to_nobody_when_it_is_refused(backend: Backend, tmp_path: Path) -> None:
    if backend.name == "postgres":
        settings = {"DATABASE_URL": f"{backend.database} password={PASSWORD} dbname=none"}
    else:
        settings = backend.environment | {"SUPABASE_SECRET_KEY": f"sb_secret_{PASSWORD}"}
    app = create_app(Settings.from_mapping(KEYLESS | {"DATA_DIR": str(tmp_path)} | settings))
    store = app.extensions["conversation_repository"].store
    try:
        for answer in calls_of(app):
            assert_silent(answer)
    finally:
        store.close()


@pytest.mark.parametrize(
    "settings",
    [
        {"DATABASE_URL": f"postgresql://ada:{PASSWORD}@127.0.0.1:1/turnlog"},
        {"DATABASE_URL": f"host=127.0.0.1 port=1 password={PASSWORD} connect_timeout=1"},
        {"SUPABASE_URL": "http://127.0.0.1:1", "SUPABASE_SECRET_KEY": f"sb_secret_{PASSWORD}"},
        {"SUPABASE_URL": f"http://ada:{PASSWORD}@127.0.0.1:1", "SUPABASE_SECRET_KEY": "sb_secret_x"},
    ],
)
def test_no_command_tells_what_opens_the_database(tmp_path: Path, settings: dict[str, str]) -> None:
    operator = Operator({"DATA_DIR": str(tmp_path)} | settings, "")
    for command in (["doctor"], ["doctor", "--json"], ["migrate"], ["keys", "list"], ["spool", "status"]):
        result = operator.run(*command)
        assert MARK not in result.output + repr(result.exception), command


@pytest.mark.parametrize(
    "settings",
    [
        {"DATABASE_URL": f"postgresql://ada:{PASSWORD}/@127.0.0.1:1/turnlog"},
        {"DATABASE_URL": f"postgresql://ada:a@{PASSWORD}@127.0.0.1:1/turnlog"},
        {"DATABASE_URL": f"password={PASSWORD} nonsense"},
        {"SUPABASE_URL": PASSWORD, "SUPABASE_SECRET_KEY": PASSWORD},
        {"SUPABASE_SECRET_KEY": PASSWORD},
        {"TURNLOG_API_KEY": MARK},
        {"TURNLOG_API_KEY": f"{PASSWORD}-of-the-operator", "TURNLOG_KEYLESS": "true"},
        {"TURNLOG_USER_TOKENS": "jwks", "TURNLOG_JWT_SECRET": f"{PASSWORD}-of-32-characters-and-more"},
        {"TURNLOG_USER_TOKENS": "hs256", "TURNLOG_JWT_SECRET": PASSWORD},
        {"PORT": PASSWORD},
    ],
)
def test_a_setting_that_is_refused_is_not_repeated(settings: dict[str, str]) -> None:
    with pytest.raises(Misconfigured) as refused:
        Settings.from_mapping(settings)
    assert MARK not in str(refused.value)
    assert refused.value.__suppress_context__


@pytest.mark.parametrize("name", ["DATABASE_URL", "TURNLOG_API_KEY"])
def test_what_is_set_wrongly_is_not_printed_at_the_start(tmp_path: Path, name: str) -> None:
    environment = {"PATH": "/usr/bin:/bin", "DATA_DIR": str(tmp_path), name: f"{MARK} nonsense"}
    for program in (
        ["flask", "--app", "app", "doctor"],
        ["gunicorn", "-c", "gunicorn.conf.py", "app:create_app()"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *program], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode != 0
        assert name in done.stdout + done.stderr
        assert MARK not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_a_service_and_its_database_write_nothing_of_what_is_said_to_their_logs() -> None:
    with launch({"TURNLOG_API_KEY": f"{PASSWORD}-of-the-operator"}) as service:
        service.wait_until_ready()
        headers = {"Authorization": f"Bearer {PASSWORD}-of-the-operator"}
        with httpx.Client(base_url=service.url, headers=headers, timeout=30) as http:
            for body in (SAID | {"session_id": MARK}, SAID | {"session_id": MARK, "interaction_id": MARK}, *REFUSED):
                http.post("/v1/interactions", json=body)
            http.post("/v1/interactions", json={"session_id": MARK, "interaction_id": MARK, "prompt": "Other"})
            http.post("/v1/interactions/batch", json={"interactions": [SAID | {"session_id": MARK}, *REFUSED]})
            for path in (f"/v1/sessions/{MARK}", f"/v1/sessions?user_id={MARK}", f"/{MARK}", f"/v1/sessions/{MARK}%00"):
                http.get(path, headers={"User-Agent": MARK, "Cookie": MARK, "Referer": MARK})
                http.get(path, headers={"Authorization": f"Bearer {SECRETS[1]}"})
            assert http.get(f"/v1/sessions/{MARK}").json()["interaction_count"] == 3


def test_a_row_that_the_embedded_database_refuses_is_not_in_its_log() -> None:
    with server_folder() as folder:
        server = EmbeddedPostgres(folder)
        server.start()
        try:
            with psycopg.connect(server.conninfo(), autocommit=True) as connection:
                connection.execute("create table said (prompt text check (length(prompt) < 3))")
                with pytest.raises(psycopg.errors.CheckViolation, match="Failing row contains"):
                    connection.execute("insert into said values (%s)", [PROMPT])
        finally:
            server.stop()
        log = server.log.read_text()
    assert "violates check constraint" in log
    assert MARK not in log
