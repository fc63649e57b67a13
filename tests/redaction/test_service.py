"""Redaction in a service of several workers that share their counters."""

import httpx

from tests.databases import TestServer
from tests.service import launch


def test_all_workers_redact_and_any_of_them_returns_the_counts(postgres_server: TestServer) -> None:
    with postgres_server.database() as name:
        settings = {
            "DATABASE_URL": postgres_server.conninfo(name),
            "TURNLOG_REDACT": "mail",
            "TURNLOG_REDACT_PATTERNS": '{"badge": "B-[0-9]{6}"}',
        }
        with launch(settings, 2) as service:
            service.wait_until_ready()
            for n in range(20):  # each on a connection of its own, so to either worker
                turn = {"session_id": "s", "interaction_id": str(n), "prompt": f"{n} ada@example.com B-123456"}
                assert httpx.post(f"{service.url}/v1/interactions", json=turn, timeout=30).status_code == 201
            stored = httpx.get(f"{service.url}/v1/sessions/s/interactions", timeout=30).json()["interactions"]
            metrics = httpx.get(f"{service.url}/metrics", timeout=30).text
    assert [row["prompt"] for row in stored] == [f"{n} [mail] [badge]" for n in range(20)]
    for kind in ("mail", "badge"):
        assert f'turnlog_redactions_total{{kind="{kind}"}} 20.0' in metrics
