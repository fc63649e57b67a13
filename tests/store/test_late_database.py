"""A service that starts without its database spools writes, and migrates the database when it comes."""

import time

import httpx

from tests.databases import TestServer
from tests.gate import Gate
from tests.service import launch
from tests.store.test_deadline import postgres_gate


def test_a_database_that_comes_later_is_migrated_and_gets_the_spooled_records(postgres_server: TestServer) -> None:
    with postgres_server.database(empty=True) as name:
        gate: Gate = postgres_gate(postgres_server.conninfo(name))
        port = gate.port
        gate.close()
        url = f"postgresql://postgres@127.0.0.1:{port}/{name}"
        with launch({"DATABASE_URL": url, "TURNLOG_DEADLINE_S": "4"}) as service:
            service.wait_until_ready()
            kept = httpx.post(f"{service.url}/v1/interactions", json={"session_id": "s", "prompt": "Early"}, timeout=30)
            assert (kept.status_code, kept.json()["receipt"]) == (202, "spooled")
            assert httpx.get(f"{service.url}/readyz", timeout=30).json()["status"] == "degraded"

            gate = postgres_gate(postgres_server.conninfo(name), port)
            try:
                give_up = time.monotonic() + 60
                page = kept.json()
                while page.get("interactions", [{"spooled": True}])[0]["spooled"]:
                    assert time.monotonic() < give_up, page
                    time.sleep(0.1)
                    page = httpx.get(f"{service.url}/v1/sessions/s/interactions", timeout=30).json()
                assert [row["prompt"] for row in page["interactions"]] == ["Early"]
            finally:
                service.stop()
                gate.close()
