"""The overview counts the days of the browser's time zone."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.databases import TestServer
from tests.http_calls import KEYLESS
from tests.service import Service, launch

_DAYS = "/?from=2026-11-08&to=2026-11-16"


@pytest.fixture(scope="module")
def evening(postgres_server: TestServer) -> Iterator[Service]:
    """Return a service with two interactions of one day in Los Angeles, and of two days in UTC."""
    with (
        postgres_server.database() as name,
        launch({"DATABASE_URL": postgres_server.conninfo(name)} | KEYLESS) as service,
    ):
        service.wait_until_ready()
        for time in ("22:00", "08:00"):
            body = {"session_id": "s", "prompt": "p", "started_at": f"2026-11-10T{time}:00-08:00"}
            httpx.post(f"{service.url}/v1/interactions", json=body, timeout=30).raise_for_status()
        yield service


@pytest.mark.parametrize(
    ("zone", "script", "counted", "bars"),
    [
        ("America/Los_Angeles", True, "America/Los_Angeles", ["11-10 00:0020"]),
        ("America/Los_Angeles", False, "UTC", ["11-10 00:0010", "11-11 00:0010"]),
        ("UTC", True, "UTC", ["11-10 00:0010", "11-11 00:0010"]),
        ("Asia/Tokyo", True, "Asia/Tokyo", ["11-11 00:0020"]),
    ],
)
def test_a_day_is_the_browsers(
    chromium: Browser, evening: Service, zone: str, script: bool, *, counted: str, bars: list[str]
) -> None:
    context = chromium.new_context(timezone_id=zone, java_script_enabled=script)
    try:
        page = context.new_page()
        loads: list[str] = []
        page.on("request", lambda sent: loads.append(sent.url) if sent.is_navigation_request() else None)
        page.goto(evening.url + _DAYS)
        expect(page.locator("footer")).to_contain_text(f"Days and hours are those of {counted}.")
        # each row: time, all, failed
        rows = page.locator("figure.chart").first.locator("tbody tr").all_text_contents()
        assert [text for row in rows if not (text := " ".join(row.split())).endswith("000")] == bars
        page.goto(evening.url + _DAYS)  # the zone is known now
        expect(page.locator("footer")).to_contain_text(f"Days and hours are those of {counted}.")
        assert len(loads) == (3 if script and zone != "UTC" else 2)
        page.goto(f"{evening.url}{_DAYS}&zone=Europe/Berlin")
        expect(page.locator("footer")).to_contain_text("Days and hours are those of Europe/Berlin.")
    finally:
        context.close()
