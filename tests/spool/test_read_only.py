"""While the database is read-only, as a standby is, writes are spooled and reads go on."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from flask.testing import FlaskClient

from app import create_app
from conversation.settings import Settings
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.spool import CircuitBreaker, Limits, Spool
from tests.http_calls import KEYLESS
from tests.spool.conftest import eventually

pytestmark = pytest.mark.own_database


def set_read_only(database: str, state: str) -> None:
    """As after a failover: new connections are read-only, and the old ones end."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("set default_transaction_read_only = off")
        name = connection.info.dbname
        connection.execute(f'alter database "{name}" set default_transaction_read_only = {state}'.encode())
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()",
            [name],
        )


@pytest.fixture
def client(database: str, tmp_path: Path) -> Iterator[FlaskClient]:
    spool = Spool(
        PostgresStore(database, deadline_s=5),
        tmp_path / "spool" / "own",
        Limits(min_free_bytes=0),
        breaker=CircuitBreaker(shortest_s=0.01, longest_s=0.05),
    )
    yield create_app(Settings.from_mapping(KEYLESS | {"DATA_DIR": str(tmp_path)}), spool).test_client()
    spool.close()


def log(client: FlaskClient, session: str, prompt: str) -> int:
    return client.post("/v1/interactions", json={"session_id": session, "prompt": prompt}).status_code


def status(client: FlaskClient) -> str:
    found: str = client.get("/readyz").get_json()["status"]
    return found


def test_writes_are_spooled_and_reads_go_on(client: FlaskClient, database: str) -> None:
    assert log(client, "before", "Stored") == 201
    set_read_only(database, "on")
    try:
        assert [log(client, "meanwhile", f"Spooled {n}") for n in range(5)] == [202] * 5
        for _ in range(20):  # also while the breaker is open
            (session,) = client.get("/v1/sessions").get_json()["sessions"]
            assert session["key"] == "before"
        (turn,) = client.get("/v1/sessions/before/interactions").get_json()["interactions"]
        assert turn["prompt"] == "Stored"
        ready = client.get("/readyz")
        assert ready.get_json()["status"] == "degraded"
        assert "read-only" in ready.get_json()["reason"]
        assert client.delete("/v1/sessions/before").status_code == 503, "an erasure can't be spooled"
        (session,) = client.get("/v1/sessions").get_json()["sessions"]
        assert session["key"] == "before"
    finally:
        set_read_only(database, "off")
    eventually(lambda: status(client) == "writable", "it is writable again")
    eventually(lambda: client.get("/readyz").get_json()["spool"]["records"] == 0, "all is delivered")
    assert len(client.get("/v1/sessions/meanwhile/interactions").get_json()["interactions"]) == 5
