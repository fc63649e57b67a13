"""The process is up; the store would keep a write. Two questions, two answers."""

import psycopg
import pytest
from flask.testing import FlaskClient

from app import create_app
from conversation.settings import Settings
from logging_store.errors import Misconfigured
from logging_store.operations import ServerSettings
from logging_store.postgres.function_store import FunctionStore
from logging_store.postgres.migrations import SCHEMA_VERSION
from logging_store.postgres.postgres_store import PostgresStore
from tests.conftest import Backend
from tests.http_calls import KEYLESS, problem
from tests.spool.flaky_store import FlakyStore

pytestmark = [pytest.mark.own_database, pytest.mark.every_store]


def test_ready_means_that_a_write_would_be_kept(client: FlaskClient) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.get_json() == {
        "status": "writable",
        "store": "embedded",
        "schema_version": SCHEMA_VERSION,
        "spool": {"records": 0, "bytes": 0, "oldest_s": 0},
        "dead_letters": 0,
        "of_other_databases": 0,
    }


def test_a_database_without_the_schema_is_not_ready_and_says_what_to_do(client: FlaskClient, backend: Backend) -> None:
    with psycopg.connect(backend.database) as connection:
        connection.execute("drop function turnlog.ping(jsonb)")
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.get_json()["status"] == "full", "this store has no spool"
    assert "migrat" in answer.get_json()["reason"]
    assert client.get("/livez").get_json() == {"status": "alive"}


class Refused(FlakyStore):
    """A store whose database doesn't let us in."""

    def ping(self) -> ServerSettings:
        raise Misconfigured('password authentication failed for user "turnlog_of_acme" (28P01)')


def test_anybody_may_ask_whether_it_is_ready_and_is_told_nothing_of_the_database(
    store: FunctionStore, caplog: pytest.LogCaptureFixture
) -> None:
    answer = create_app(Settings.from_mapping(KEYLESS), Refused(store)).test_client().get("/readyz")
    assert "acme" not in answer.get_data(as_text=True)
    assert "its operator finds the cause in the log" in answer.get_json()["reason"]
    assert "turnlog_of_acme" in caplog.text


def test_a_database_that_is_away_is_not_ready_but_the_process_lives() -> None:
    store = PostgresStore("host=127.0.0.1 port=1 dbname=none", deadline_s=1)
    client = create_app(Settings.from_mapping(KEYLESS), store).test_client()
    answers = [client.get("/readyz"), client.post("/v1/interactions", json={"prompt": "Hello"})]
    assert [answer.status_code for answer in answers] == [503, 503]
    assert answers[0].get_json()["status"] == "full", "this store has no spool"
    assert problem(answers[1])["status"] == 503
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
    assert client.get("/livez").status_code == 200
    store.close()


def test_a_read_only_database_is_not_ready(client: FlaskClient, backend: Backend) -> None:
    # what a project becomes when its disk is full
    with psycopg.connect(backend.database, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"alter database {name} set default_transaction_read_only = on".encode())
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
