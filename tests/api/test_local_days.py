"""Overviews by the hours, days and weeks of a time zone."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask.testing import FlaskClient

from conversation.api.overview import parse_span
from conversation.api.pagination import OverviewQuery
from tests.http_calls import log, problem

NEW_YORK, BERLIN, KOLKATA = "America/New_York", "Europe/Berlin", "Asia/Kolkata"


def overview(client: FlaskClient, **query: str) -> dict[str, Any]:
    answer = client.get("/v1/overview", query_string=query)
    assert answer.status_code == 200, answer.get_data()
    told: dict[str, Any] = answer.get_json()
    return told


def bars(told: dict[str, Any]) -> list[tuple[str, int]]:
    return [(bucket["at"], bucket["interactions"]) for bucket in told["buckets"]]


def starts(query: dict[str, str], now: datetime = datetime(2026, 11, 21, 6, 30, tzinfo=UTC)) -> list[str]:
    """Return when the buckets of a query begin, in its zone."""
    span = parse_span(OverviewQuery.model_validate(query), now)
    return [at.astimezone(span.zone or UTC).isoformat(timespec="minutes") for at in span.buckets()]


@pytest.mark.every_store
def test_a_local_day_is_one_bar(client: FlaskClient) -> None:
    for time in ("22:00", "08:00"):
        log(client, session_id="tz-1", prompt="p", response="r", started_at=f"2026-11-10T{time}:00-08:00")
    day = {"from": "2026-11-10T00:00:00-08:00", "to": "2026-11-11T00:00:00-08:00", "by": "day"}
    assert bars(overview(client, **day)) == [("2026-11-10T08:00:00Z", 2)]
    week = {"from": "2026-11-09T00:00:00-08:00", "to": "2026-11-12T00:00:00-08:00", "by": "day"}
    told = overview(client, **week, zone="America/Los_Angeles")
    assert (told["zone"], told["by"], told["bucket_s"]) == ("America/Los_Angeles", "day", 86400)
    assert bars(told) == [("2026-11-09T08:00:00Z", 0), ("2026-11-10T08:00:00Z", 2), ("2026-11-11T08:00:00Z", 0)]
    assert overview(client, **day)["zone"] is None


@pytest.mark.every_store
def test_a_day_of_25_hours_is_one_bar(client: FlaskClient) -> None:
    # on 2026-11-01 New York's clocks go back at 02:00
    for time in ("00:30:00-04:00", "01:30:00-04:00", "01:30:00-05:00", "23:30:00-05:00"):
        log(client, session_id="s", prompt="p", started_at=f"2026-11-01T{time}")
    log(client, session_id="s", prompt="p", started_at="2026-11-02T00:00:00-05:00")
    span = {"from": "2026-11-01T00:00:00-04:00", "to": "2026-11-03T00:00:00-05:00", "zone": NEW_YORK}
    assert bars(overview(client, **span, by="day")) == [("2026-11-01T04:00:00Z", 4), ("2026-11-02T05:00:00Z", 1)]
    hours = bars(overview(client, **span, by="hour"))
    assert len(hours) == 49
    assert [bar for bar in hours if bar[1]][:3] == [(f"2026-11-01T0{hour}:00:00Z", 1) for hour in (4, 5, 6)]


def test_days_keep_midnight_where_the_clocks_change() -> None:
    def days(first: str, end: str, zone: str) -> list[str]:
        return starts({"from": first, "to": end, "by": "day", "zone": zone})

    assert days("2026-03-27T23:00:00Z", "2026-03-30T22:00:00Z", BERLIN) == [
        "2026-03-28T00:00+01:00", "2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00",
    ]  # fmt: skip
    # in Beirut the clocks skip midnight: that day begins at one
    skipped = days("2026-03-27T22:00:00Z", "2026-03-29T21:00:00Z", "Asia/Beirut")
    assert skipped == ["2026-03-28T00:00+02:00", "2026-03-29T01:00+03:00"]
    # in Havana the hour before one comes twice: the day begins with the first
    twice = days("2026-10-31T04:00:00Z", "2026-11-02T05:00:00Z", "America/Havana")
    assert twice == ["2026-10-31T00:00-04:00", "2026-11-01T00:00-04:00"]


def test_the_first_bar_begins_with_the_span() -> None:
    query = {"from": "2026-11-05T12:00:00Z", "to": "2026-11-17T12:00:00Z", "by": "week"}
    assert starts(query | {"zone": BERLIN}) == [
        "2026-11-05T13:00+01:00", "2026-11-09T00:00+01:00", "2026-11-16T00:00+01:00",
    ]  # fmt: skip
    assert starts(query) == ["2026-11-05T12:00+00:00", "2026-11-12T12:00+00:00"]
    hours = starts({"from": "2026-11-05T12:10:00Z", "to": "2026-11-05T14:00:00Z", "zone": KOLKATA})
    assert hours == ["2026-11-05T17:40+05:30", "2026-11-05T18:00+05:30", "2026-11-05T19:00+05:30"]


@pytest.mark.parametrize("zone", [NEW_YORK, BERLIN, KOLKATA, "Pacific/Auckland", "UTC"])
def test_a_span_until_now_ends_with_the_local_bucket(zone: str) -> None:
    now = datetime(2026, 11, 3, 2, 15, tzinfo=UTC)
    local = now.astimezone(ZoneInfo(zone))
    days = starts({"span": "7d", "zone": zone}, now)
    assert [day[:16] for day in days] == [f"{(local - timedelta(days=6 - n)).date()}T00:00" for n in range(7)]
    hours = starts({"span": "24h", "zone": zone}, now)
    assert (len(hours), hours[-1][:16]) == (24, f"{local:%Y-%m-%dT%H}:00")
    weeks = starts({"span": "30d", "by": "week", "zone": zone}, now)
    assert all(datetime.fromisoformat(week).weekday() == 0 for week in weeks[1:])
    assert datetime.fromisoformat(weeks[-1]).date() == local.date() - timedelta(days=local.weekday())


def test_a_week_without_an_hour_is_cut_into_days() -> None:
    assert len(starts({"from": "2026-03-25T00:00:00+01:00", "to": "2026-04-01T00:00:00+02:00", "zone": BERLIN})) == 7


@pytest.mark.parametrize(
    ("zone", "likely"),
    [
        ("Berlin", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        ("America/Los Angeles", "America/Los_Angeles"),
        ("Amerika/New_York", NEW_YORK),
        ("los angeles", "America/Los_Angeles"),
        ("../../etc/passwd", None),
        ("+08:00", None),
        ("😀", None),
    ],
)
def test_an_unknown_zone_is_refused_with_the_likely_one(client: FlaskClient, zone: str, likely: str | None) -> None:
    (field,) = problem(client.get("/v1/overview", query_string={"zone": zone}), 422)["fields"]
    expected = "Must be the name of a time zone, such as Europe/Berlin"
    assert field == {"path": "?zone", "detail": f"{expected}. Did you mean {likely}?" if likely else expected}


def test_more_buckets_than_a_chart_holds_are_refused(client: FlaskClient) -> None:
    span = {"from": "2020-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z", "zone": BERLIN}
    (field,) = problem(client.get("/v1/overview", query_string=span), 422)["fields"]
    assert field["path"] == "?from"
    assert len(overview(client, **span, by="week")["buckets"]) == 314
